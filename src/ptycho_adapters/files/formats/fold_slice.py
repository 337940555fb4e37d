"""Scans as fold_slice and PtychoShelves read them: `NAME_dp.hdf5` with the patterns, `NAME_para.hdf5` with the rest.

`dp` is (n, N, N) photons with zero frequency in the middle; `ppX` and `ppY` are the beam's column and row on the object
in metres, `lambda` the wavelength in metres, `dx` the object pixel in metres, `angle` that of a projection in degrees.
The pair belongs together by its names. It holds no probe: that is in the result of a reconstruction.

Frames are taken as Python programs write and read them, (n, row, column). MATLAB writes the same stack with rows and
columns exchanged, and no file tells: where that was done, exchange `ppX` and `ppY`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.formats.beamline import scan_of
from ptycho_adapters.files.formats.beamline_parts import BeamlineParts, Geometry
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_adapters.files.reading import ReadRequest
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.reading import ArrayFacts, Evidence
    from ptycho_core.measurement.scan import Scan

TITLE = "PtychoShelves"

_PATTERNS = "dp"
_COORDINATES = ("ppY", "ppX")
_DATA_END, _PARAMETERS_END = "_dp", "_para"


def is_fold_slice(evidence: Evidence) -> bool:
    """Tell either file of the pair by what it holds at its root."""
    return evidence.is_hdf5_with(_PATTERNS) or evidence.is_hdf5_with(*_COORDINATES)


def fold_slice_patterns(evidence: Evidence) -> ArrayFacts | None:
    """Give shape and dtype of the patterns, None for the file without them."""
    return evidence.arrays.get(_PATTERNS)


def read_fold_slice_scan(path: Path, request: ReadRequest) -> Scan:
    """Read a scan from a pair of files.

    Args:
        path: either of them.
        request: what the caller said: the parameters may be given as a second file where names do not pair them, and
            the probe has to be.

    Returns:
        The scan; its metadata say what was found out rather than stated.

    Raises:
        ScanFileError: with every problem there is.
    """
    data, parameters = _pair(path, request)
    parts, angle = _parameters(parameters, request)
    with collecting(data) as file:
        parts.patterns = file.patterns(_PATTERNS, "diffraction patterns", request.pattern_map)
        parts.problems[:0] = file.problems
    if parts.geometry.pixel_m is None and request.stated.pixel_m is None:
        fix = "give --pixel-m"
        problem = Problem(path=f"{parameters.name}: dx", expected="the object pixel in metres", found="none", fix=fix)
        parts.problems.append(problem)
        raise ScanFileError(str(path), parts.problems)
    if angle is not None:
        parts.notes["tomography_angle_deg"] = f"{angle!r}"
    return scan_of(parts, path, request)


def read_fold_slice_parts(path: Path) -> BeamlineParts:
    """Read everything of a pair of files but the patterns; what is missing is among the problems.

    Raises:
        ScanFileError: there is no second file, or one cannot be opened.
    """
    request = ReadRequest()
    return _parameters(_pair(path, request)[1], request)[0]


def _parameters(parameters: Path, request: ReadRequest) -> tuple[BeamlineParts, float | None]:
    """Read the file with the parameters, and the angle of the projection, if it says one."""
    parts = BeamlineParts(
        key_of={
            "patterns": _PATTERNS,
            "positions_px": f"{parameters.name}: {', '.join(reversed(_COORDINATES))}",
            "geometry": f"{parameters.name}: dx",
        }
    )
    with collecting(parameters) as file:
        if not request.stated.places_frames:
            parts.positions_m = _positions_m(file)
        parts.geometry = Geometry(wavelength_m=file.positive("lambda", "m"), pixel_m=file.positive("dx", "m"))
        angle = file.number("angle")
        parts.problems.extend(file.problems)
    return parts, angle


def is_parameters_of_a_pair(path: Path) -> bool:
    """Tell by the names whether a file goes with one that holds the patterns, without looking into either."""
    name = path.stem.removesuffix(_PARAMETERS_END)
    return name != path.stem and path.with_name(name + _DATA_END + path.suffix).is_file()


def _pair(path: Path, request: ReadRequest) -> tuple[Path, Path]:
    """Give the files with the patterns and with the parameters."""
    with collecting(path) as file:
        is_data = file.has(_PATTERNS)
        complete = is_data and all(file.has(key) for key in _COORDINATES)
    if complete:
        return path, path
    partner = request.product
    if partner is None:
        ours, theirs = (_DATA_END, _PARAMETERS_END) if is_data else (_PARAMETERS_END, _DATA_END)
        if not path.stem.endswith(ours):
            found = f"the name {path.name}, which pairs with none"
            expected = f"a second file: NAME{_DATA_END}{path.suffix} goes with NAME{_PARAMETERS_END}{path.suffix}"
            fix = "name the two files so, or give the second one with product= or --product"
            raise ScanFileError(str(path), [Problem(path="file", expected=expected, found=found, fix=fix)])
        partner = path.with_name(path.stem.removesuffix(ours) + theirs + path.suffix)
        if not partner.is_file():
            problem = Problem(path="file", expected=f"{partner.name} beside it", found="no such file")
            raise ScanFileError(str(path), [problem])
    return (path, partner) if is_data else (partner, path)


def _positions_m(file: Collector) -> AnyArray | None:
    arrays = [file.quantity(key, "coordinates in metres", "m") for key in _COORDINATES]
    columns: list[npt.NDArray[np.float64]] = []
    for key, array in zip(_COORDINATES, arrays, strict=True):
        if array is None:
            continue
        if array.dtype.kind not in "iuf" or array.size != max(array.shape, default=0):
            file.problems.append(Problem(path=key, expected="(n,) real numbers", found=describe(array)))
            continue
        columns.append(array.astype(np.float64).ravel())
    if len(columns) != 2:
        return None
    if columns[0].size != columns[1].size:
        found = f"{columns[0].size} and {columns[1].size}"
        problem = Problem(path=", ".join(_COORDINATES), expected="equally many of both", found=found)
        file.problems.append(problem)
        return None
    return np.stack(columns, axis=1)
