"""Scans in the training file of Ptychodus 1.7: everything in one HDF5 file, positions in object pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.formats.ptychodus.parts import PtychodusParts, own_metadata, scan_of
from ptycho_adapters.files.formats.ptychodus.reader import BAD_PIXELS, MASK_KNOWN, PATTERNS
from ptycho_adapters.files.hdf5.members import read_array, read_long_text, read_number, read_patterns
from ptycho_adapters.files.hdf5.nodes import find_node, names_in, open_h5
from ptycho_adapters.files.products.contents import OWN
from ptycho_adapters.files.reading import ArrayFacts, Evidence, ReadRequest, refuse_product
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanError, ScanFileError
from ptycho_core.measurement.geometry import wavelength_from_energy
from ptycho_core.measurement.scan import ScanMetadata

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from ptycho_core.measurement.scan import Scan

TITLE = "Ptychodus training"
X_PX, Y_PX = "probe_position_x_px", "probe_position_y_px"
_KEYS = {"positions_px": f"{X_PX}, {Y_PX}"}


def is_ptychodus_training(evidence: Evidence) -> bool:
    """Tell whether this is a training file of the client."""
    return evidence.is_hdf5_with(PATTERNS, X_PX)


def training_patterns(evidence: Evidence) -> ArrayFacts | None:
    """Give shape and dtype of the patterns."""
    return evidence.arrays.get(PATTERNS)


def read_training_scan(path: Path, request: ReadRequest) -> Scan:
    """Read a scan from a training file.

    Datasets: `patterns` (n, N, N) counts, `bad_pixels` (N, N) True where the pattern was filled, `probe`
    (modes, N, N), `object` (H, W), `probe_position_x_px` and `_y_px` (n,) in pixels of the object, and the numbers
    `object_pixel_width_m`, `object_pixel_height_m`, `detector_object_distance_m` and `photon_energy_eV`, 0 where
    unknown.

    Args:
        path: the file.
        request: what the patterns are, and where the probe comes from, where the file is not to say.

    Returns:
        The scan, with notes in its metadata.

    Raises:
        ScanFileError: with every problem there is.
    """
    refuse_product(path, request, "a training file")
    file = open_h5(path)
    if isinstance(file, Problem):
        raise ScanFileError(str(path), [file])
    parts = PtychodusParts(key_of=_KEYS)
    with file:
        parts.patterns = _noted(file, PATTERNS, read_patterns(file, PATTERNS, request.pattern_map), parts)
        parts.probe = _optional(file, "probe", parts)
        if not _stands_for_none(file, BAD_PIXELS):
            parts.bad_pixels = _optional(file, BAD_PIXELS, parts)
        if not _stands_for_none(file, "object"):
            parts.object = _optional(file, "object", parts)
        parts.positions_px = _positions(file, parts)
        parts.scan_index = _optional(file, f"{OWN}/scan_index", parts)
        parts.commanded_positions_px = _optional(file, f"{OWN}/commanded_positions_px", parts)
        parts.metadata = _metadata(file, parts)
    return scan_of(parts, path, request)


def _stands_for_none(file: h5py.File, name: str) -> bool:
    """Tell whether a dataset is there only because the client wants one."""
    node = find_node(file, name)
    return node is not None and not isinstance(node, Problem) and read_number(node, MASK_KNOWN) == 0.0


def _optional(file: h5py.File, name: str, parts: PtychodusParts) -> AnyArray | None:
    array = read_array(file, name)
    if isinstance(array, Problem):
        parts.problems.append(array)
        return None
    return array


def _array(file: h5py.File, name: str, parts: PtychodusParts) -> AnyArray | None:
    return _noted(file, name, read_array(file, name), parts)


def _noted(file: h5py.File, name: str, array: AnyArray | Problem | None, parts: PtychodusParts) -> AnyArray | None:
    if array is None:
        array = Problem(path=name, expected="a dataset", found=f"only {', '.join(names_in(file)) or 'nothing'}")
    if isinstance(array, Problem):
        parts.problems.append(array)
        return None
    return array


def _positions(file: h5py.File, parts: PtychodusParts) -> AnyArray | None:
    """Give the positions, ours to the last bit where they stand beside an object that stands for none."""
    exact = _optional(file, f"{OWN}/positions_px", parts)
    if exact is not None:
        return exact
    x, y = _array(file, X_PX, parts), _array(file, Y_PX, parts)
    if x is None or y is None:
        return None
    if x.ndim != 1 or x.shape != y.shape or x.dtype.kind not in "iuf" or y.dtype.kind not in "iuf":
        found = f"{describe(x)} and {describe(y)}"
        parts.problems.append(Problem(path=f"{X_PX}, {Y_PX}", expected="(n,) real numbers both", found=found))
        return None
    return np.stack([y.astype(np.float64), x.astype(np.float64)], axis=1)


def _metadata(file: h5py.File, parts: PtychodusParts) -> ScanMetadata:
    n_problems = len(parts.problems)
    width, height = _number(file, "object_pixel_width_m", parts), _number(file, "object_pixel_height_m", parts)
    distance, energy = _number(file, "detector_object_distance_m", parts), _number(file, "photon_energy_eV", parts)
    exact = _number(file, f"{OWN}/wavelength_m", parts)
    if width != height:
        expected, found = "square pixels", f"{height} by {width}"
        parts.problems.append(Problem(path="object_pixel_height_m", expected=expected, found=found))
    text = read_long_text(file, f"{OWN}/metadata")
    if isinstance(text, Problem):
        parts.problems.append(text)
    if len(parts.problems) > n_problems or isinstance(text, Problem):
        return ScanMetadata()
    try:
        wavelength = exact if exact or not energy else wavelength_from_energy(energy_ev=energy)
        stated = ScanMetadata(pixel_size_m=width, wavelength_m=wavelength, distance_m=distance)
    except ScanError as error:
        parts.problems.extend(error.problems)
        return ScanMetadata()
    return own_metadata(text, stated, parts.problems)


def _number(file: h5py.File, name: str, parts: PtychodusParts) -> float | None:
    """Read a number kept as a dataset; 0 stands for unknown."""
    array = _optional(file, name, parts)
    if array is None:
        return None
    if array.size != 1 or array.dtype.kind not in "iuf":
        parts.problems.append(Problem(path=name, expected="one number", found=describe(array)))
        return None
    return float(array.ravel()[0]) or None
