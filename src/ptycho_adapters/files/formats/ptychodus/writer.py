"""Scans written for the Ptychodus client: the folder of a workflow, or one training file.

The client has no file without a mask and none without an object. Where a scan has none of either, a mask of good pixels
and a transparent object over all patches are written, marked `known = False` (`object_known` in a product), and read
back as none. What the client has no word for goes into the group `ptycho_core`, which it does not look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path, commit_files
from ptycho_adapters.files.count_formats import amplitude_problems
from ptycho_adapters.files.formats.metadata_json import metadata_to_text
from ptycho_adapters.files.formats.ptychodus.reader import (
    BAD_PIXELS,
    DIFFRACTION_NAME,
    INDEXES,
    MASK_KNOWN,
    PATTERNS,
    PRODUCT_NAME,
)
from ptycho_adapters.files.formats.ptychodus.training import X_PX, Y_PX
from ptycho_adapters.files.products.contents import OWN
from ptycho_adapters.files.products.hdf5 import Experiment
from ptycho_core.errors import ConfigError, Problem, ScanError
from ptycho_core.measurement.geometry import detector_pixel_m, energy_from_wavelength, positions_m_from_px
from ptycho_core.physics.canvas import CanvasFrame, canvas_frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py

    from ptycho_core.measurement.scan import Scan

_CHUNK_BYTES = 1 << 18
_OBJECT_CHUNK_PX = 512
# The client keeps an object in memory as complex128: 64 GiB at this side.
_LARGEST_SIDE_PX = 1 << 16
_FILE_SUFFIXES = (".h5", ".hdf5", ".npz", ".cxi")


_FLAGS = {
    "pixel_size_m": "--pixel-m",
    "wavelength_m": "--energy-ev, --wavelength-m or --voltage-v",
    "distance_m": "--distance-m",
}


@attrs.frozen(kw_only=True)
class _Geometry:
    """The lengths that a client's file cannot do without, in metres."""

    pixel_m: float
    wavelength_m: float
    distance_m: float


def ptychodus_refuses(scan: Scan) -> tuple[Problem, ...]:
    """Name everything in a scan that the client's files cannot hold."""
    return tuple(_refusals(scan))


def _refusals(scan: Scan) -> Iterator[Problem]:
    yield from amplitude_problems(scan, title="Ptychodus")
    metadata = scan.metadata
    if "\0" in metadata.name or any("\ud800" <= letter <= "\udfff" for letter in metadata.name):
        expected = "text without NUL and lone surrogates"
        fix = "say another with ptycho convert --name"
        yield Problem(path="metadata.name", expected=expected, found=repr(metadata.name), fix=fix)
    for name, flags in _FLAGS.items():
        if getattr(metadata, name) is None:
            expected, fix = "a length: the client computes with it", f"say it with ptycho convert {flags}"
            yield Problem(path=f"metadata.{name}", expected=expected, found="unknown", fix=fix)
    try:
        geometry = _geometry(scan)
        if geometry is not None:
            _derived(scan, geometry)
    except ScanError as error:
        yield from error.problems
    if scan.object is None:
        yield from _extent_problems(scan)


def _extent_problems(scan: Scan) -> Iterator[Problem]:
    extent = float(np.ptp(scan.positions_px, axis=0).max()) + scan.N
    if extent > _LARGEST_SIDE_PX or float(np.abs(scan.positions_px).max()) > 2.0**52:
        expected = f"within {_LARGEST_SIDE_PX} px where there is no object: the client needs one over all positions"
        yield Problem(path="positions_px", expected=expected, found=f"over {extent:.3g} px")


def _geometry(scan: Scan) -> _Geometry | None:
    metadata = scan.metadata
    if metadata.pixel_size_m is None or metadata.wavelength_m is None or metadata.distance_m is None:
        return None
    return _Geometry(pixel_m=metadata.pixel_size_m, wavelength_m=metadata.wavelength_m, distance_m=metadata.distance_m)


def _derived(scan: Scan, geometry: _Geometry) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Give detector pixel in metres, photon energy in eV and positions in metres.

    Raises:
        ScanError: when one of them leaves the range of numbers.
    """
    detector = detector_pixel_m(
        wavelength_m=geometry.wavelength_m,
        distance_m=geometry.distance_m,
        pixel_m=geometry.pixel_m,
        size_px=scan.N,
    )
    with np.errstate(over="ignore"):
        positions_m = positions_m_from_px(scan.positions_px, pixel_m=geometry.pixel_m)
    if not np.isfinite(positions_m).all():
        raise ScanError("geometry", [Problem(path="positions_px", expected="finite in metres", found="infinite")])
    return detector, energy_from_wavelength(wavelength_m=geometry.wavelength_m), positions_m


def _required_geometry(scan: Scan) -> _Geometry:
    geometry = _geometry(scan)
    if geometry is None:
        raise ScanError("scan", ptychodus_refuses(scan))
    return geometry


def write_ptychodus_folder(scan: Scan, path: Path) -> None:
    """Write the folder of a client's workflow: `diffraction.h5` and `product.h5`; both are new or both are old.

    Args:
        scan: counts with known geometry; see `ptychodus_refuses`.
        path: the folder, made where there is none; its parent must exist.

    Raises:
        ConfigError: when the path is named like a file.
        OSError: from the file system.
    """
    if path.suffix.lower() in _FILE_SUFFIXES:
        expected = f"a folder, for {DIFFRACTION_NAME} and {PRODUCT_NAME}"
        raise ConfigError("write_scan", [Problem(path="path", expected=expected, found=str(path))])
    path.mkdir(exist_ok=True)
    commit_files(
        {
            path / DIFFRACTION_NAME: lambda partial: _write_diffraction(scan, partial),
            path / PRODUCT_NAME: lambda partial: _write_product(scan, partial),
        }
    )


def write_training_scan(scan: Scan, path: Path) -> None:
    """Write a training file of the client; atomic.

    Args:
        scan: counts with known geometry; see `ptychodus_refuses`.
        path: where to; an existing file is replaced.

    Raises:
        OSError: from the file system; an existing file is then as it was.
    """
    from ptycho_adapters.files.hdf5.writing import new_hdf5  # noqa: PLC0415 - only who writes HDF5 needs it

    geometry, frame = _required_geometry(scan), _frame(scan)
    _, energy_ev, _ = _derived(scan, geometry)
    placed_px = scan.positions_px - np.asarray(frame.origin_px)
    with atomic_path(path) as partial, new_hdf5(partial) as file:
        _write_patterns(scan, file)
        _write_mask(scan, file)
        file["probe"] = scan.probe
        _write_object(scan, file, frame.shape).attrs[MASK_KNOWN] = scan.object is not None
        file[Y_PX], file[X_PX] = placed_px.T
        file["object_pixel_width_m"] = file["object_pixel_height_m"] = geometry.pixel_m
        file["detector_object_distance_m"] = geometry.distance_m
        file["photon_energy_eV"] = energy_ev
        group = file.create_group(OWN)
        group["wavelength_m"] = geometry.wavelength_m
        _write_own(scan, group)


def _write_diffraction(scan: Scan, path: Path) -> None:
    from ptycho_adapters.files.hdf5.writing import new_hdf5  # noqa: PLC0415 - only who writes HDF5 needs it

    detector, _, _ = _derived(scan, _required_geometry(scan))
    with new_hdf5(path) as file:
        patterns = _write_patterns(scan, file)
        patterns.attrs.update({"detector_pixel_width_m": detector, "detector_pixel_height_m": detector})
        file[INDEXES] = np.arange(scan.n_patterns)
        _write_mask(scan, file)


def _write_product(scan: Scan, path: Path) -> None:
    from ptycho_adapters.files.hdf5.writing import new_hdf5  # noqa: PLC0415 - only who writes HDF5 needs it

    geometry, frame = _required_geometry(scan), _frame(scan)
    _, _, positions_m = _derived(scan, geometry)
    experiment = Experiment(
        name=scan.metadata.name,
        photons=float(np.sum(np.square(np.abs(scan.probe.astype(np.complex128))))),
        wavelength_m=geometry.wavelength_m,
        distance_m=geometry.distance_m,
        pixel_m=geometry.pixel_m,
    )
    with new_hdf5(path) as file:
        file.attrs.update(experiment.root_attributes())
        file["probe_position_indexes"] = np.arange(scan.n_patterns)
        file["probe_position_y_m"], file["probe_position_x_m"] = positions_m.T
        file["probe"] = scan.probe[np.newaxis]
        object_ = _write_object(scan, file, (1, *frame.shape))
        for node in (file["probe"], object_):
            node.attrs.update(experiment.pixel_attributes())
        object_.attrs.update(experiment.centre_attributes(frame.origin_px, frame.shape))
        file["object_layer_spacing_m"] = np.zeros(0)
        file["loss_epochs"] = np.zeros(0, dtype=np.int64)
        file["loss_values"] = np.zeros(0)
        group = file.create_group(OWN)
        group.attrs.update({"wavelength_m": geometry.wavelength_m, "object_known": scan.object is not None})
        group.attrs["origin_px"] = np.asarray(frame.origin_px, dtype=np.float64)
        _write_own(scan, group)


def _frame(scan: Scan) -> CanvasFrame:
    """Give the object's place: its own, or a rectangle that holds every patch."""
    if scan.object is None:
        return canvas_frame(scan.positions_px, scan.N)
    height, width = scan.object.shape
    return CanvasFrame(origin_px=(0, 0), shape=(height, width))


def _write_patterns(scan: Scan, file: h5py.File) -> h5py.Dataset:
    """Write the patterns in chunks of whole frames, so that a few can be read without the others."""
    frames = max(1, min(scan.n_patterns, _CHUNK_BYTES // (scan.N**2 * scan.patterns.itemsize)))
    chunks = (frames, scan.N, scan.N)
    return file.create_dataset(PATTERNS, data=scan.patterns, chunks=chunks, shuffle=True, compression="lzf")


def _write_mask(scan: Scan, file: h5py.File) -> None:
    mask = np.zeros((scan.N, scan.N), dtype=np.bool_) if scan.bad_pixels is None else scan.bad_pixels
    file[BAD_PIXELS] = mask
    file[BAD_PIXELS].attrs[MASK_KNOWN] = scan.bad_pixels is not None


def _write_object(scan: Scan, file: h5py.File, shape: tuple[int, ...]) -> h5py.Dataset:
    if scan.object is not None:
        return file.create_dataset("object", data=scan.object.reshape(shape))
    # Transparent by its fill value: nothing is stored, whatever the size.
    chunks = tuple(min(side, _OBJECT_CHUNK_PX) for side in shape)
    return file.create_dataset("object", shape, np.complex64, fillvalue=np.complex64(1.0), chunks=chunks)


def _write_own(scan: Scan, group: h5py.Group) -> None:
    # The positions in pixels are kept as well: what the client reads would lose their last bit.
    group["positions_px"] = scan.positions_px
    if scan.scan_index.any():
        group["scan_index"] = scan.scan_index
    if scan.commanded_positions_px is not None:
        group["commanded_positions_px"] = scan.commanded_positions_px
    # A fixed-length text: HDF5 keeps it beside no heap that damage could lead astray.
    group["metadata"] = np.bytes_(metadata_to_text(scan.metadata, N=scan.N))
