"""Every way a beamline's file can fail to be a scan, and what its reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import pytest

import beamline_samples as samples
from beamline_samples import DETECTOR, SOURCE, TRANSLATION, changed, never_written, replace, the_probe
from ptycho_adapters.files import read_scan
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _without(key: str) -> Callable[[h5py.File], None]:
    def delete(file: h5py.File) -> None:
        del file[key]

    return delete


def _with(key: str, value: npt.ArrayLike) -> Callable[[h5py.File], None]:
    return lambda file: replace(file, key, value)


def _external(file: h5py.File) -> None:
    del file[f"{DETECTOR}/data"]
    file[f"{DETECTOR}/data"] = h5py.ExternalLink("/etc/hostname", "/data")


def _virtual(file: h5py.File) -> None:
    del file[f"{DETECTOR}/data"]
    layout = h5py.VirtualLayout(shape=(6, 16, 16), dtype="u2")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", shape=(6, 16, 16))
    file.create_virtual_dataset(f"{DETECTOR}/data", layout)


def _stopped(file: h5py.File) -> None:
    counts = file[f"{DETECTOR}/data"][()]
    del file[f"{DETECTOR}/data"]
    data = file.create_dataset(f"{DETECTOR}/data", shape=(60, 16, 16), dtype="u2", chunks=(1, 16, 16))
    data[:6] = counts


BAD_CXI: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no translation": (_without("entry_1/sample_1"), r"translation: expected translations.*found only"),
    "no energy": (_without(SOURCE), r"found no wavelength"),
    "no distance": (_without(f"{DETECTOR}/distance"), r"found no distance"),
    "energy in eV": (_with(f"{SOURCE}/energy", 8000.0), r"joules.*found 8000; multiply an energy in eV"),
    "negative energy": (_with(f"{SOURCE}/energy", -1.0), r"energy: expected a finite number > 0, found -1"),
    "energy as text": (_with(f"{SOURCE}/energy", np.bytes_("8 keV")), r"energy: expected an array of numbers"),
    "energies that differ": (_with(f"{SOURCE}/energy", [1e-15, 2e-15]), r"energy: .*found 2 numbers from 1e-15"),
    "oblong pixels": (_with(f"{DETECTOR}/x_pixel_size", 5e-5), r"square detector pixels, found 7.5e-05 by 5e-05"),
    "five positions": (_with(TRANSLATION, np.arange(15.0).reshape(5, 3)), r"found 5 positions for 6 patterns"),
    "flat positions": (_with(TRANSLATION, np.zeros(6)), r"translation: expected \(n, 3\) real numbers"),
    "equal positions": (_with(TRANSLATION, np.zeros((6, 3))), r"translation: .*all positions equal"),
    "negative counts": (
        _with(f"{DETECTOR}/data", np.full((6, 16, 16), -3, dtype=np.int16)),
        r"values >= 0, found a smallest value of -3",
    ),
    "NaN": (_with(f"{DETECTOR}/data", np.full((6, 16, 16), np.nan)), r"data: expected finite values"),
    "not square": (_with(f"{DETECTOR}/data", np.ones((6, 16, 8))), r"square diffraction patterns"),
    "amplitudes": (
        _with(f"{DETECTOR}/data", np.sqrt(np.arange(6 * 256, dtype=np.float32)).reshape(6, 16, 16)),
        r"squares are whole numbers.*--domain",
    ),
    "mask of another size": (_with(f"{DETECTOR}/mask", np.zeros((8, 8), dtype=np.uint32)), r"mask: expected the size"),
    "link to another file": (
        _external,
        r"data: expected data in .*found a link to the file /etc/hostname, which is not",
    ),
    "virtual": (_virtual, r"data: expected data in this file"),
    "never written": (never_written, r"data: expected 1000000 chunks of data, found 0"),
    "stopped scan": (_stopped, r"data: expected 60 chunks of data, found 6: it is incomplete"),
    "skew basis": (
        lambda file: file.create_dataset(f"{DETECTOR}/basis_vectors", data=np.ones((2, 3))),
        r"basis_vectors: expected rows and columns along x and y",
    ),
    "basis along the beam": (
        lambda file: file.create_dataset(
            f"{DETECTOR}/basis_vectors", data=np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
        ),
        r"basis_vectors: expected rows and columns along x and y",
    ),
    "probe of another size": (_with("entry_1/image_1/data", np.ones((8, 8), np.complex64)), r"image_1/data: .*16×16"),
}


@pytest.mark.parametrize("case", BAD_CXI.values(), ids=BAD_CXI.keys())
def test_a_bad_cxi_file_is_refused_by_name(case: tuple[Callable[[h5py.File], None], str], tmp_path: Path) -> None:
    """Whatever is wrong, the message has the path in the file, what was expected and what is there."""
    change, message = case

    with pytest.raises(ScanFileError, match=message):
        read_scan(changed(samples.save_cxi(tmp_path / "scan.cxi"), change))


def _linked_chunks(file: h5py.File) -> None:
    """As PtyPy saves with `save="link"`: each chunk a file of its own."""
    for number in ("0", "1"):
        del file[f"chunks/{number}"]
        file[f"chunks/{number}"] = h5py.ExternalLink(f"scan.ptyd.part00{number}", "/")


BAD_PTYD: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no positions": (_without("chunks/1/positions"), r"chunks/1/positions: expected positions"),
    "chunks that do not fit": (_with("chunks/1/data", np.ones((2, 8, 8), np.int32)), r"chunks/1/data: .*continues"),
    "no energy": (_with("meta/energy", 0.0), r"meta: .*found no wavelength"),
    "energy in eV": (_with("meta/energy", 8e7), r"meta/energy: expected a photon energy in keV"),
    "no pixel": (_with("meta/psize", np.zeros(1)), r"found no detector pixel"),
    "three pixels": (_with("meta/psize", np.ones(3)), r"meta/psize: expected one or two real numbers"),
    "chunks in other files": (
        _linked_chunks,
        r"chunks/0/data: .*found a link to the file scan.ptyd.part000, which is not there; copy it into one file",
    ),
    "no chunks": (_without("chunks"), r"chunks/0/data: expected data of a chunk of frames"),
    "near field": (
        lambda file: file.create_dataset("meta/propagation", data=np.bytes_("nearfield")),
        r"propagation: expected farfield, found nearfield",
    ),
}


@pytest.mark.parametrize("case", BAD_PTYD.values(), ids=BAD_PTYD.keys())
def test_a_bad_ptypy_file_is_refused_by_name(case: tuple[Callable[[h5py.File], None], str], tmp_path: Path) -> None:
    """Whatever is wrong, the message has the path in the file, what was expected and what is there."""
    change, message = case

    with pytest.raises(ScanFileError, match=message):
        read_scan(changed(samples.save_ptyd(tmp_path / "scan.ptyd"), change), probe=the_probe)


BAD_FOLD_SLICE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no pixel": (_without("dx"), r"dx: expected the object pixel in metres, found none"),
    "no x": (_without("ppX"), r"ppX: expected coordinates in metres"),
    "unequal": (_with("ppX", np.zeros(3)), r"expected equally many of both, found 6 and 3"),
    "a table": (_with("ppX", np.zeros((3, 2))), r"ppX: expected \(n,\) real numbers"),
}


@pytest.mark.parametrize("case", BAD_FOLD_SLICE.values(), ids=BAD_FOLD_SLICE.keys())
def test_a_bad_parameter_file_is_refused_by_name(case: tuple[Callable[[h5py.File], None], str], tmp_path: Path) -> None:
    """What is wrong beside the patterns is named with its key."""
    change, message = case
    data = samples.save_fold_slice(tmp_path)
    changed(tmp_path / "data_roi0_para.hdf5", change)

    with pytest.raises(ScanFileError, match=message):
        read_scan(data, probe=the_probe)
