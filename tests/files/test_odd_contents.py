"""Contents that decoders fail on in ways of their own: each is a ScanFileError that names the key."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import beamline_samples as samples
from ptycho_adapters.files import probe_from_file, read_scan
from ptycho_core.errors import ScanFileError
from scan_arrays_sample import sample_arrays, save_npz

if TYPE_CHECKING:
    from pathlib import Path


def replace_member(path: Path, name: str, content: bytes) -> Path:
    """The same NPZ file with other bytes in one member, whose checksum is right."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in {**members, name: content}.items():
            archive.writestr(key, value)
    return path


def npy(header: str, body: bytes) -> bytes:
    """An array with a header of one's own."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }}",
        "{'descr': ['<f8'], 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': 3, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}",
    ],
)
def test_a_header_that_python_cannot_parse(header: str, tmp_path: Path) -> None:
    """An array's header is text, and whatever the parser thinks of it, the key is named."""
    path = save_npz(tmp_path / "scan.npz", sample_arrays())

    with pytest.raises(ScanFileError, match="xcoords: expected"):
        read_scan(replace_member(path, "xcoords.npy", npy(header, bytes(24))))


@pytest.mark.parametrize("order", ["<", ">"])
def test_letters_outside_of_unicode(order: str, tmp_path: Path) -> None:
    """Four bytes that are no letter are refused before they become a text."""
    letters = np.array([0x7B, 0x7FFFFFFF], dtype=f"{order}u4").tobytes()
    content = npy(f"{{'descr': '{order}U2', 'fortran_order': False, 'shape': ()}}", letters)
    path = save_npz(tmp_path / "scan.npz", sample_arrays() | {"measurement_domain": np.array("counts")})

    with pytest.raises(ScanFileError, match="measurement_domain: expected text, found numbers that are no letters"):
        read_scan(replace_member(path, "measurement_domain.npy", content))


def test_parts_of_a_record_outside_of_it(tmp_path: Path) -> None:
    """Where a damaged type puts the imaginary part beyond the record, nothing is read from there."""
    path = tmp_path / "result.mat"
    record = np.zeros((1, samples.N, samples.N), dtype=[("real", "<f8"), ("imag", "<f8")])
    with h5py.File(path, "w", libver="earliest") as file:
        file["probe"] = record
    content = path.read_bytes()
    member = b"imag\0\0\0\0" + (8).to_bytes(4, "little")
    assert content.count(member) == 1
    path.write_bytes(content.replace(member, b"imag\0\0\0\0" + (9).to_bytes(4, "little")))

    with pytest.raises(ScanFileError, match="probe: expected"):
        probe_from_file(path)


def test_complex_numbers_with_a_displaced_part(tmp_path: Path) -> None:
    """The same in the complex numbers of a CXI file."""
    path = samples.save_cxi(tmp_path / "scan.cxi")
    content = path.read_bytes()
    member = b"i\0\0\0\0\0\0\0" + (4).to_bytes(4, "little")
    assert content.count(member) == 1
    path.write_bytes(content.replace(member, b"i\0\0\0\0\0\0\0" + (5).to_bytes(4, "little")))

    with pytest.raises(ScanFileError, match=r"(image_1/data|probe): expected"):
        read_scan(path)
