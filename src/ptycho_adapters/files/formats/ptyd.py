"""Scans in PtyPy's prepared-data files (`.ptyd`): numbered chunks of frames, with the geometry beside them.

`meta/energy` is in keV, `meta/distance` and `meta/psize` are metres, positions are (row, column) of the beam on the
object in metres, weights are 0 where a pixel is bad. PtyPy writes the number 0 where it means None.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.formats.beamline import scan_of
from ptycho_adapters.files.formats.beamline_parts import BeamlineParts, Geometry
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_adapters.files.hdf5.nodes import array_facts, find_node
from ptycho_adapters.files.in_file import InFile
from ptycho_adapters.files.in_place import sealed
from ptycho_adapters.files.reading import ArrayFacts, refuse_product
from ptycho_adapters.files.stacks.hdf5 import hdf5_series
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.geometry import wavelength_from_energy
from ptycho_core.measurement.stored import joined, stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ptycho_adapters.files.reading import Evidence, ReadRequest
    from ptycho_adapters.files.stacks.stack import FrameStack
    from ptycho_core.measurement.scan import Scan

TITLE = "PtyPy"

_CHUNKS = "chunks"
_MARKS = ("meta/energy", "meta/distance", "meta/psize")
_DATA, _POSITIONS, _WEIGHTS = "data", "positions", "weights"
_COMMON_WEIGHTS = ("meta/weight2d", "info/weight2d", "common/weight2d")
# From visible light to hard gamma rays; an energy outside of it is in other units.
_ENERGIES_KEV = (1e-4, 1e4)
_CENTRE_TOLERANCE_PX = 1.0


def is_ptyd(evidence: Evidence) -> bool:
    """Tell a PtyPy file by its chunks of frames, or by its geometry where the chunks lie in other files."""
    return evidence.is_hdf5_with(*_MARKS) or (evidence.is_hdf5_with() and bool(_chunk_keys(evidence.arrays)))


def ptyd_patterns(evidence: Evidence) -> ArrayFacts | None:
    """Give shape and dtype of the frames of all chunks together, None when they do not fit together."""
    facts = [evidence.arrays[key] for key in _chunk_keys(evidence.arrays)]
    if not facts or any(len(one.shape) != 3 or one.shape[1:] != facts[0].shape[1:] for one in facts):
        return None
    return ArrayFacts(shape=(sum(one.shape[0] for one in facts), *facts[0].shape[1:]), dtype=facts[0].dtype)


def read_ptyd_scan(path: Path, request: ReadRequest) -> Scan:
    """Read a scan from a PtyPy file.

    Args:
        path: the file; it holds no probe.
        request: what the caller said, and where the probe comes from.

    Returns:
        The scan; its metadata say what was found out rather than stated.

    Raises:
        ScanFileError: with every problem there is.
    """
    refuse_product(path, request, TITLE)
    with collecting(path) as file:
        numbers = sorted((name for name in file.names(_CHUNKS) if name.isdecimal()), key=int)
        parts = BeamlineParts(
            key_of={"patterns": f"{_CHUNKS}/*/{_DATA}", "positions_px": f"{_CHUNKS}/*/{_POSITIONS}", "geometry": "meta"}
        )
        parts.patterns = _joined_patterns(file, numbers, request)
        if not request.stated.places_frames:
            parts.positions_m = _joined(file, numbers, _POSITIONS, rank=2)
        parts.geometry = _geometry(file)
        parts.bad_pixels = _bad_pixels(file, numbers, parts)
        _check_propagation(file, parts)
        parts.problems.extend(file.problems)
    return scan_of(parts, path, request)


def ptyd_stack(evidence: Evidence) -> FrameStack | None:
    """Give the frames of all chunks as one stack; None where they do not fit together."""
    if ptyd_patterns(evidence) is None:
        return None
    return hdf5_series(evidence.path, {key: evidence.arrays[key] for key in _chunk_keys(evidence.arrays)})


def read_ptyd_parts(path: Path) -> BeamlineParts:
    """Read everything of a file but its patterns; what is missing is among the problems.

    Raises:
        ScanFileError: it cannot be opened.
    """
    with collecting(path) as file:
        numbers = sorted((name for name in file.names(_CHUNKS) if name.isdecimal()), key=int)
        parts = BeamlineParts()
        parts.positions_m = _joined(file, numbers, _POSITIONS, rank=2)
        parts.geometry = _geometry(file)
        parts.bad_pixels = _bad_pixels(file, numbers, parts)
        _check_propagation(file, parts)
        parts.problems.extend(file.problems)
    return parts


def _chunk_keys(keys: Iterable[str]) -> list[str]:
    names = [key.split("/") for key in keys]
    found = [
        name for name in names if len(name) == 3 and name[0] == _CHUNKS and name[1].isdecimal() and name[2] == _DATA
    ]
    return ["/".join(name) for name in sorted(found, key=lambda name: int(name[1]))]


def _joined_patterns(file: Collector, numbers: Sequence[str], request: ReadRequest) -> AnyArray | None:
    """Join the patterns of the chunks: in memory, where they are, or in the map, which takes one after the other."""
    if request.pattern_map is None:
        return _joined(file, numbers, _DATA, rank=3)
    if isinstance(request.pattern_map, InFile):
        return _joined_in_file(file, numbers, request.pattern_map)
    joined: AnyArray | None = None
    for number in numbers or ["0"]:
        key = f"{_CHUNKS}/{number}/{_DATA}"
        joined = file.patterns(key, f"{_DATA} of a chunk of frames", request.pattern_map)
        if joined is None:
            return None
    return joined


def _joined_in_file(file: Collector, numbers: Sequence[str], wanted: InFile) -> AnyArray | None:
    """Join chunks that stay where they are, all of them or none; chunks that do not fit are said as in memory."""
    keys = [f"{_CHUNKS}/{number}/{_DATA}" for number in numbers]
    found = [find_node(file.file, key) for key in keys]
    facts = [array_facts(node) for node in found if node is not None and not isinstance(node, Problem)]
    if not numbers or not wanted.holds(sum(each.nbytes for each in facts if each is not None)):
        return _joined(file, numbers, _DATA, rank=3)
    always = attrs.evolve(wanted, always=True)
    arrays = [file.patterns(key, f"{_DATA} of a chunk of frames", always) for key in keys]
    parts = [part for part in map(stored, arrays) if part is not None]
    if len(parts) == len(keys) and len({(part.shape[1:], part.dtype) for part in parts}) == 1:
        return joined(parts).as_array()
    if len(parts) == len(keys):
        expected = "chunks of the same frames and number format"
        file.problems.append(Problem(path=_CHUNKS, expected=expected, found="different ones"))
    return None


def _joined(file: Collector, numbers: Sequence[str], part: str, *, rank: int) -> AnyArray | None:
    """Join the chunks of one part along the frames."""
    keys = [f"{_CHUNKS}/{number}/{part}" for number in numbers] or [f"{_CHUNKS}/0/{part}"]
    arrays = [file.array(key, f"{part} of a chunk of frames") for key in keys]
    if any(array is None for array in arrays):
        return None
    whole = cast("list[AnyArray]", arrays)
    for key, array in zip(keys, whole, strict=True):
        if array.ndim != rank or array.shape[1:] != whole[0].shape[1:] or array.dtype != whole[0].dtype:
            expected = f"an array of {rank} axes that continues the first chunk"
            file.problems.append(Problem(path=key, expected=expected, found=describe(array)))
            return None
    return whole[0] if len(whole) == 1 else sealed(np.concatenate(whole))


def _geometry(file: Collector) -> Geometry:
    energy_kev = file.positive("meta/energy", "keV")
    wavelength_m = None
    smallest, largest = _ENERGIES_KEV
    if energy_kev is not None and not smallest <= energy_kev <= largest:
        expected = f"a photon energy in keV, {smallest:g} to {largest:g}"
        file.problems.append(Problem(path="meta/energy", expected=expected, found=f"{energy_kev:g}"))
    elif energy_kev is not None:
        wavelength_m = _wavelength_m(file, energy_kev)
    return Geometry(
        wavelength_m=wavelength_m,
        distance_m=file.positive("meta/distance", "m"),
        detector_pixel_m=_pair(file, "meta/psize", "m"),
    )


def _wavelength_m(file: Collector, energy_kev: float) -> float | None:
    try:
        return wavelength_from_energy(energy_ev=1e3 * energy_kev)
    except ScanError as error:
        file.problems.extend(error.problems)
        return None


def _pair(file: Collector, key: str, unit: str = "") -> tuple[float, float] | None:
    """Read one number for both axes, or one for each; None where there is none, or 0 stands for it."""
    if not file.has(key):
        return None
    array = file.quantity(key, "one or two numbers", unit) if unit else file.array(key, "one or two numbers")
    if array is None:
        return None
    if array.size not in (1, 2) or array.dtype.kind not in "iuf":
        file.problems.append(Problem(path=key, expected="one or two real numbers", found=describe(array)))
        return None
    values = array.astype(np.float64).ravel()
    if not np.isfinite(values).all() or (values < 0.0).any():
        file.problems.append(Problem(path=key, expected="finite numbers > 0", found=f"{values.tolist()}"))
        return None
    return None if (values == 0.0).any() else (float(values[0]), float(values[-1]))


def _bad_pixels(file: Collector, numbers: Sequence[str], parts: BeamlineParts) -> AnyArray | None:
    """Mark the pixels without weight in any frame: a scan has one mask for all of its frames."""
    good: npt.NDArray[np.bool_] | None = None
    varying = False
    for key in [*(f"{_CHUNKS}/{number}/{_WEIGHTS}" for number in numbers), *_COMMON_WEIGHTS]:
        weights = file.array(key, "weights") if file.kind(key) in {"b", "i", "u", "f"} else None
        if weights is None or weights.size == 0 or weights.ndim not in (2, 3):
            continue
        lit = cast("npt.NDArray[np.float64]", weights) > 0
        frame = np.asarray(lit.all(axis=0)) if lit.ndim == 3 else np.asarray(lit)
        varying |= lit.ndim == 3 and bool((lit.any(axis=0) != frame).any())
        if good is not None and good.shape != frame.shape:
            file.problems.append(Problem(path=key, expected=f"weights of {good.shape}", found=describe(weights)))
            return None
        good = frame if good is None else good & frame
    if varying:
        parts.notes["mask_evidence"] = "weights differ between frames: a pixel without weight in one is bad in all"
    return None if good is None else ~good


def _check_propagation(file: Collector, parts: BeamlineParts) -> None:
    """Refuse what the far-field geometry does not hold for, and note a beam that is off the middle."""
    if file.text("meta/propagation") == "nearfield":
        problem = Problem(path="meta/propagation", expected="farfield", found="nearfield")
        file.problems.append(problem)
    centre = _pair(file, "meta/center") if file.kind("meta/center") in {"i", "u", "f"} else None
    if centre is None or parts.patterns is None:
        return
    middle = parts.patterns.shape[1] // 2
    if math.hypot(centre[0] - middle, centre[1] - middle) > _CENTRE_TOLERANCE_PX:
        parts.notes["centre_evidence"] = f"the file has zero frequency at {centre[0]:g}, {centre[1]:g}: not {middle}"
