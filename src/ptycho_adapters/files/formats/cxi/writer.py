"""Writing scans as CXI files that other programs open: data, geometry and links where the specification has them.

What the format has no place for lies in the group `entry_1/ptycho_core`, so that `read_scan` gives back an equal scan.
The group `entry_1/ptychodus` holds the lengths by which the Ptychodus client opens the same file as a product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.count_formats import amplitude_problems
from ptycho_adapters.files.formats.cxi.reader import DETECTOR, ENTRY, OBJECT_KEY, OWN_GROUP, SOURCE
from ptycho_adapters.files.formats.metadata_json import metadata_to_text
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.measurement.geometry import (
    ELEMENTARY_CHARGE_C,
    detector_pixel_m,
    energy_from_wavelength,
    positions_m_from_px,
)

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from ptycho_core.measurement.scan import Scan

_VERSION = 160
_CLIENT_GROUP = f"{ENTRY}/ptychodus"


def cxi_refuses(scan: Scan) -> tuple[Problem, ...]:
    """Name what keeps a scan from being a CXI file: data are photons there and positions metres."""
    problems = amplitude_problems(scan, title="CXI")
    if scan.metadata.pixel_size_m is not None:
        return problems
    fix = "say the object pixel with ptycho convert --pixel-m, or write another format, such as --format npz"
    unknown = Problem(path="pixel_size_m", expected="positions that can be written in metres", found="None", fix=fix)
    return (*problems, unknown)


def write_cxi_scan(scan: Scan, path: Path) -> None:
    """Write a scan as CXI; atomic.

    Args:
        scan: counts whose object pixel is known; see `cxi_refuses`.
        path: where to; an existing file is replaced.

    Raises:
        ScanError: the scan holds amplitudes, or the object pixel is not known.
        OSError: from the file system; an existing file is then as it was.
    """
    import h5py  # noqa: PLC0415 - only who writes CXI needs it

    from ptycho_adapters.files.hdf5.writing import new_hdf5  # noqa: PLC0415 - only who writes CXI needs it

    raise_if_any(ScanError, f"{path} (CXI)", cxi_refuses(scan))
    with atomic_path(path) as partial, new_hdf5(partial) as file:
        file["cxi_version"] = _VERSION
        file["number_of_entries"] = 1
        _write_detector(scan, file)
        _write_sample(scan, file)
        _write_images(scan, file)
        _write_own(scan, file.create_group(OWN_GROUP))
        for key, target in (
            (f"{ENTRY}/data_1/data", f"{DETECTOR}/data"),
            (f"{ENTRY}/data_1/translation", f"{ENTRY}/sample_1/geometry_1/translation"),
            (f"{DETECTOR}/translation", f"{ENTRY}/sample_1/geometry_1/translation"),
            (f"{SOURCE}/illumination", f"{ENTRY}/image_1/data"),
        ):
            file[key] = h5py.SoftLink(f"/{target}")


def _pixel_m(scan: Scan) -> float:
    pixel_m = scan.metadata.pixel_size_m
    if pixel_m is None:
        raise ScanError("CXI", cxi_refuses(scan))
    return pixel_m


def _write_detector(scan: Scan, file: h5py.File) -> None:
    data = file.create_dataset(
        f"{DETECTOR}/data",
        data=scan.patterns,
        chunks=(1, scan.N, scan.N),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    data.attrs["axes"] = np.bytes_("translation:y:x")
    if scan.bad_pixels is not None:
        file[f"{DETECTOR}/mask"] = scan.bad_pixels.astype(np.uint32)
    metadata = scan.metadata
    if metadata.distance_m is not None:
        file[f"{DETECTOR}/distance"] = metadata.distance_m
    if metadata.wavelength_m is None:
        return
    file[f"{SOURCE}/wavelength"] = metadata.wavelength_m
    file[f"{SOURCE}/energy"] = energy_from_wavelength(wavelength_m=metadata.wavelength_m) * ELEMENTARY_CHARGE_C
    if metadata.distance_m is not None:
        side_m = detector_pixel_m(
            wavelength_m=metadata.wavelength_m, distance_m=metadata.distance_m, pixel_m=_pixel_m(scan), size_px=scan.N
        )
        file[f"{DETECTOR}/x_pixel_size"] = file[f"{DETECTOR}/y_pixel_size"] = side_m


def _write_sample(scan: Scan, file: h5py.File) -> None:
    positions_m = positions_m_from_px(scan.positions_px, pixel_m=_pixel_m(scan))
    translation = np.stack([positions_m[:, 1], positions_m[:, 0], np.zeros(scan.n_patterns)], axis=1)
    file[f"{ENTRY}/sample_1/geometry_1/translation"] = translation


def _write_images(scan: Scan, file: h5py.File) -> None:
    pixel_m = _pixel_m(scan)
    side_m = scan.N * pixel_m
    file[f"{ENTRY}/image_1/data"] = scan.probe[np.newaxis]
    file[f"{ENTRY}/image_1/image_size"] = np.array([side_m, side_m, 0.0])
    lengths = {f"probe_pixel_{axis}_m": pixel_m for axis in ("width", "height")}
    if scan.object is not None:
        height, width = scan.object.shape
        file[OBJECT_KEY] = scan.object
        file[f"{ENTRY}/image_2/image_size"] = np.array([width * pixel_m, height * pixel_m, 0.0])
        lengths |= {f"object_pixel_{axis}_m": pixel_m for axis in ("width", "height")}
        lengths |= {"object_center_x_m": (width - 1) / 2 * pixel_m, "object_center_y_m": (height - 1) / 2 * pixel_m}
    for name, value in lengths.items():
        file[f"{_CLIENT_GROUP}/{name}"] = value


def _write_own(scan: Scan, group: h5py.Group) -> None:
    import h5py  # noqa: PLC0415 - only who writes CXI needs it

    # Texts of fixed length: HDF5 keeps them beside no heap that damage could lead astray.
    group["measurement_domain"] = np.bytes_(str(scan.domain))
    group["metadata"] = np.bytes_(metadata_to_text(scan.metadata, N=scan.N))
    group["positions_px"] = scan.positions_px
    group["scan_index"] = scan.scan_index
    if scan.object is not None:
        group["object"] = h5py.SoftLink(f"/{OBJECT_KEY}")
    if scan.commanded_positions_px is not None:
        group["commanded_positions_px"] = scan.commanded_positions_px
