"""From the arrays of a legacy NPZ file to the parts of a scan: keys, axes, orders."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from ptycho_adapters.files.evidence.domain import patterns_first
from ptycho_adapters.files.pattern_map import NOT_MAPPABLE
from ptycho_adapters.files.reading import MISSING_PROBE
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem
from ptycho_core.measurement.arrays import as_float64, as_index, as_object, as_patterns, as_probe
from ptycho_core.measurement.checks import ScanParts
from ptycho_core.measurement.frames import is_memory_mapped

DOMAIN_KEY = "measurement_domain"
COMMANDED_KEY = "commanded_positions"
COMMANDED_UNKNOWN = "unknown"
PATTERN_KEYS = ("diff3d", "diffraction")
_LARGEST_INDEX = 2**31
_MEASURED = ("xcoords", "ycoords")
_COMMANDED = ("xcoords_start", "ycoords_start")
ARRAY_KEYS = (
    *PATTERN_KEYS,
    *_MEASURED,
    *_COMMANDED,
    "probeGuess",
    "objectGuess",
    "bad_pixels",
    "scan_index",
)


@attrs.define
class NpzParts:
    """The parts of a scan with what was noted on the way.

    Attributes:
        parts: what the file holds, not yet known to be a scan.
        key_of: the file's key for each part, for messages.
        problems: what is missing or in conflict.
        notes: what was found out rather than stated.
    """

    parts: ScanParts
    key_of: dict[str, str]
    problems: list[Problem]
    notes: dict[str, str]


@attrs.frozen
class _File:
    """The arrays that could be read from one file and the names of all that are in it."""

    arrays: Mapping[str, AnyArray]
    keys: frozenset[str]
    layout: str | None

    def has(self, key: str) -> bool:
        return key in self.keys

    def missing(self, path: str, expected: str) -> Problem:
        return Problem(path=path, expected=expected, found=f"only {', '.join(sorted(self.keys)) or 'an empty archive'}")


def assemble(arrays: Mapping[str, AnyArray], keys: frozenset[str], *, layout: str | None) -> NpzParts:
    """Bring the arrays of a file into the axes and orders of a scan.

    Args:
        arrays: what could be read, by key.
        keys: every key of the file; one that could not be read is not reported again.
        layout: the layout of the patterns that the file states, if any.

    Returns:
        The parts, None where a part is missing or unreadable.
    """
    file = _File(arrays, keys, layout)
    problems: list[Problem] = []
    notes: dict[str, str] = {}
    measured = _MEASURED
    if not any(map(file.has, _MEASURED)) and all(map(file.has, _COMMANDED)):
        measured = _COMMANDED
        notes["positions_evidence"] = "xcoords_start, ycoords_start: the file has no others"
    positions = _positions(file, measured, problems)
    commanded = None
    if measured is _MEASURED and any(map(file.has, _COMMANDED)):
        commanded = _positions(file, _COMMANDED, problems)
    probe = _probe(file, problems)
    key, patterns = _patterns(file, positions, probe, problems, notes)
    parts = ScanParts(
        patterns=patterns,
        positions_px=positions,
        probe=probe,
        object=_object(file),
        bad_pixels=_mask(file),
        scan_index=_index(file),
        commanded_positions_px=commanded,
    )
    key_of = {
        "patterns": key,
        "positions_px": ", ".join(measured),
        "commanded_positions_px": ", ".join(_COMMANDED),
        "probe": "probeGuess",
        "object": "objectGuess",
    }
    return NpzParts(parts, key_of, problems, notes)


def _patterns(
    file: _File,
    positions: AnyArray | None,
    probe: AnyArray | None,
    problems: list[Problem],
    notes: dict[str, str],
) -> tuple[str, AnyArray | None]:
    present = [key for key in PATTERN_KEYS if file.has(key)]
    if not present:
        problems.append(file.missing("diff3d", "diffraction patterns under diff3d or diffraction"))
        return PATTERN_KEYS[0], None
    key = present[0]
    if len(present) > 1 and not _same(file.arrays.get(present[0]), file.arrays.get(present[1])):
        path, expected = " and ".join(present), "one stack of patterns"
        found = "two that differ"
        problems.append(Problem(path=path, expected=expected, found=found, fix="remove the one that is not meant"))
    if key not in file.arrays:
        return key, None
    stack = patterns_first(
        file.arrays[key],
        key=key,
        stated=file.layout,
        n_positions=None if positions is None else len(positions),
        probe_side=probe.shape[1] if probe is not None and probe.ndim == 3 else None,
    )
    if isinstance(stack, Problem):
        problems.append(stack)
        return key, None
    if is_memory_mapped(file.arrays[key]) and not stack[0].flags.c_contiguous:
        problems.append(attrs.evolve(NOT_MAPPABLE, path=key))
        return key, None
    if stack[1]:
        notes["layout_evidence"] = stack[1]
    return key, as_patterns(stack[0])


def _same(one: AnyArray | None, other: AnyArray | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other)


def _positions(file: _File, keys: tuple[str, str], problems: list[Problem]) -> AnyArray | None:
    """Join the coordinates to (n, 2) in (y, x) order."""
    problems.extend(file.missing(key, "coordinates (n,) in object pixels") for key in keys if not file.has(key))
    if not all(key in file.arrays for key in keys):
        return None
    x, y = (as_float64(_flat(file.arrays[key])) for key in keys)
    wrong = [
        Problem(path=key, expected="(n,) real numbers", found=describe(array))
        for key, array in zip(keys, (x, y), strict=True)
        if array.ndim != 1 or array.dtype.kind != "f"
    ]
    if not wrong and len(x) != len(y):
        wrong = [Problem(path=", ".join(keys), expected="equally many of both", found=f"{len(x)} and {len(y)}")]
    problems.extend(wrong)
    return None if wrong else np.stack([y, x], axis=1)


def _flat(array: AnyArray) -> AnyArray:
    """Take a single row or column, such as (n, 1), for a list."""
    return array.reshape(-1) if array.size and array.size == max(array.shape, default=0) else array


def _probe(file: _File, problems: list[Problem]) -> AnyArray | None:
    if not file.has("probeGuess"):
        missing = file.missing("probeGuess", "an illumination (modes, N, N)")
        problems.append(attrs.evolve(missing, fix=MISSING_PROBE.fix))
    if "probeGuess" not in file.arrays:
        return None
    array = file.arrays["probeGuess"]
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == array.shape[1] != array.shape[2]:
        array = np.moveaxis(array, 2, 0)
    return as_probe(array)


def _object(file: _File) -> AnyArray | None:
    array = file.arrays.get("objectGuess")
    if array is None:
        return None
    return as_object(array[0] if array.ndim == 3 and array.shape[0] == 1 else array)


def _mask(file: _File) -> AnyArray | None:
    array = file.arrays.get("bad_pixels")
    if array is None or array.dtype.kind not in "iu":
        return array
    return array.astype(np.bool_)


def _index(file: _File) -> AnyArray | None:
    array = file.arrays.get("scan_index")
    if array is None:
        return None
    if array.dtype.kind == "f":
        values = array.astype(np.float64)
        if bool(((values == np.rint(values)) & (np.abs(values) < _LARGEST_INDEX)).all()):
            array = values.astype(np.int64)
    return as_index(array)
