"""Results of other programs, described: PtyPy's `.ptyr` and PtyLab's reconstructions.

They have no place for all that a product holds, so they are told about, and lend their probes (`--probe FILE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_core.errors import ScanFileError, raise_if_any

if TYPE_CHECKING:
    from ptycho_adapters.files.reading import ArrayFacts, Evidence

_OBJECTS, _PROBES, _POSITIONS = "content/obj/", "content/probe/", "content/positions/"
_DATA = "/data"
_PTYLAB = ("object", "probe", "dxp")
Facts = Mapping[str, Mapping[str, object]]


@attrs.frozen(kw_only=True)
class ForeignResult:
    """What such a file holds.

    Attributes:
        title: the program.
        facts: by section and name; None where not given, units in the names.
    """

    title: str
    facts: Facts


def foreign_result(evidence: Evidence) -> ForeignResult | None:
    """Describe a result of another program.

    Args:
        evidence: what the file shows.

    Returns:
        What it holds, from headers and small numbers; None for any other file.

    Raises:
        ScanFileError: what it says about itself is damaged.
    """
    if _storages(evidence, _OBJECTS) and _storages(evidence, _PROBES):
        return _of_ptypy(evidence)
    return _of_ptylab(evidence) if evidence.is_hdf5_with(*_PTYLAB) else None


def _storages(evidence: Evidence, where: str) -> dict[str, ArrayFacts]:
    """Give the complex arrays of the storages of a container, by the names of the storages."""
    if not evidence.is_hdf5_with():
        return {}
    return {
        name[len(where) : -len(_DATA)]: facts
        for name, facts in evidence.arrays.items()
        if name.startswith(where) and name.endswith(_DATA) and facts.dtype.kind == "c" and len(facts.shape) == 3
    }


def _of_ptypy(evidence: Evidence) -> ForeignResult:
    objects, probes = _storages(evidence, _OBJECTS), _storages(evidence, _PROBES)
    positions = [facts for name, facts in evidence.arrays.items() if name.startswith(_POSITIONS)]
    with collecting(evidence.path) as file:
        facts: Facts = {
            "object": {**_arrays(objects), "pixel_size_m": _pixel_m(file, f"{_OBJECTS}{next(iter(objects))}/_psize")},
            "probe": {**_arrays(probes), "pixel_size_m": _pixel_m(file, f"{_PROBES}{next(iter(probes))}/_psize")},
            "positions": {"number": sum(one.shape[0] for one in positions if one.shape) or None},
        }
        raise_if_any(ScanFileError, str(evidence.path), file.problems)
    return ForeignResult(title="PtyPy reconstruction", facts=facts)


def _of_ptylab(evidence: Evidence) -> ForeignResult:
    with collecting(evidence.path) as file:
        pixel_m = _pixel_m(file, "dxp")
        facts: Facts = {
            **{
                name: {
                    "size_px": list(evidence.arrays[name].shape[-2:]),
                    "modes": int(np.prod(evidence.arrays[name].shape[:-2], dtype=np.int64)),
                    "pixel_size_m": pixel_m,
                }
                for name in _PTYLAB[:2]
            },
            "positions": {"number": _length(evidence, "encoder_corrected")},
            "geometry": {"wavelength_m": file.positive("wavelength", "m"), "distance_m": file.positive("zo", "m")},
            "run": {"epochs": _length(evidence, "error")},
        }
        raise_if_any(ScanFileError, str(evidence.path), file.problems)
    return ForeignResult(title="PtyLab reconstruction", facts=facts)


def _arrays(storages: Mapping[str, ArrayFacts]) -> dict[str, object]:
    first = next(iter(storages.values()))
    return {
        "storages": ", ".join(storages),
        "size_px": list(first.shape[-2:]),
        "modes": first.shape[0],
    }


def _pixel_m(file: Collector, key: str) -> float | None:
    return file.positive(key, "m") if file.kind(key) in {"i", "u", "f"} else None


def _length(evidence: Evidence, name: str) -> int | None:
    facts = evidence.arrays.get(name)
    return None if facts is None or not facts.shape else facts.shape[0]
