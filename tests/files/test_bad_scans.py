"""Every way a file can fail to be a scan, and what its reader is told."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from ptycho_adapters.files import read_scan
from ptycho_core.errors import ScanFileError
from scan_arrays_sample import sample_arrays, save_npz

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _changed(**changes: npt.ArrayLike) -> Callable[[Path], None]:
    arrays = sample_arrays() | {key: np.asarray(value) for key, value in changes.items()}
    return lambda path: np.savez(path, allow_pickle=True, **arrays)


def _without(key: str) -> Callable[[Path], None]:
    arrays = sample_arrays()
    del arrays[key]
    return lambda path: np.savez(path, allow_pickle=False, **arrays)


def _cut(path: Path) -> None:
    save_npz(path, sample_arrays())
    path.write_bytes(path.read_bytes()[:700])


def _flip_a_byte(path: Path) -> None:
    save_npz(path, sample_arrays())
    content = bytearray(path.read_bytes())
    content[250] ^= 0xFF
    path.write_bytes(content)


def _false_shape(path: Path) -> None:
    """An array that claims a terabyte in a few bytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 400, 400), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("diff3d.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))


_NAN = np.where(np.eye(8) > 0, np.nan, 1.0) * np.ones((3, 1, 1))

BAD_FILES: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "empty file": (lambda path: path.write_bytes(b""), "file", "NPZ", "an empty file"),
    "directory": (lambda path: path.mkdir(), "file", "NPZ", "a folder with nothing"),
    "text": (lambda path: path.write_text("hello"), "file", "NPZ", "b'hello'"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n0"), "file", "a complete HDF5 file", "damaged"),
    "empty zip": (lambda path: zipfile.ZipFile(path, "w").close(), "file", "NPZ", "without members"),
    "truncated zip": (_cut, "file", "a complete NPZ (zip) file", "damaged data"),
    "damaged bytes": (_flip_a_byte, "diff3d", "an undamaged array", "CRC"),
    "false shape": (_false_shape, "diff3d", "1280000000128 bytes", "bytes"),
    "no patterns": (_without("diff3d"), "diff3d", "diff3d or diffraction", "only probeGuess, xcoords, ycoords"),
    "no probe": (_without("probeGuess"), "probeGuess", "an illumination", "only diff3d, xcoords, ycoords"),
    "no x": (_without("xcoords"), "xcoords", "coordinates (n,)", "only diff3d, probeGuess, ycoords"),
    "non-square": (_changed(diff3d=np.ones((3, 8, 9))), "diff3d", "square diffraction patterns", "(3, 8, 9)"),
    "one frame": (_changed(diff3d=np.ones((8, 8))), "diff3d", "(n, N, N)", "(8, 8)"),
    "five positions": (
        _changed(xcoords=np.arange(5.0), ycoords=np.arange(5.0)),
        "xcoords, ycoords",
        "3 positions",
        "5 positions for 3 patterns",
    ),
    "unequal coordinates": (_changed(xcoords=np.arange(4.0)), "xcoords, ycoords", "equally many", "4 and 3"),
    "NaN counts": (_changed(diff3d=_NAN), "diff3d", "finite values", "24 NaN or infinite"),
    "negative counts": (_changed(diff3d=-np.ones((3, 8, 8), dtype=np.int32)), "diff3d", "values >= 0", "-1"),
    "complex patterns": (_changed(diff3d=np.ones((3, 8, 8)) * 1j), "diff3d", "real numbers", "complex128"),
    "text patterns": (_changed(diff3d=np.full((3, 8, 8), "a")), "diff3d", "real numbers", "<U1"),
    "equal positions": (
        _changed(xcoords=np.ones(3), ycoords=np.ones(3)),
        "xcoords, ycoords",
        "differ from each other",
        "all positions equal",
    ),
    "positions in metres": (
        _changed(xcoords=np.arange(3) * 1e-6, ycoords=np.zeros(3)),
        "xcoords, ycoords",
        "object pixels",
        "within 2e-06 px",
    ),
    "pickled patterns": (_changed(diff3d=np.array([{}], dtype=object)), "diff3d", "numbers", "pickled object array"),
    "pickled probe": (
        _changed(probeGuess=np.array([{}], dtype=object)),
        "probeGuess",
        "numbers",
        "pickled object array",
    ),
    "wrong probe size": (_changed(probeGuess=np.ones((6, 6)) * 1j), "probeGuess", "8×8", "6×6"),
    "dark probe": (_changed(probeGuess=np.zeros((8, 8))), "probeGuess", "with photons", "zeros only"),
    "wrong mask": (_changed(bad_pixels=np.zeros((6, 6), dtype=bool)), "bad_pixels", "(8, 8)", "(6, 6)"),
    "NaN object": (_changed(objectGuess=np.full((9, 9), np.nan * 1j)), "objectGuess", "finite values", "NaN"),
    "two stacks": (_changed(diffraction=np.ones((3, 8, 8))), "diff3d and diffraction", "one stack", "two that differ"),
    "unknown domain": (
        _changed(measurement_domain="intensity"),
        "measurement_domain",
        "counts or amplitude",
        "'intensity'",
    ),
    "metadata": (_changed(_metadata="{"), "_metadata", "JSON", "text that is not"),
    "photon number": (
        _changed(_metadata='{"physics_parameters": {"nphotons": -1}}'),
        "_metadata.physics_parameters.nphotons",
        "> 0",
        "-1",
    ),
}


@pytest.mark.parametrize(("make", "key", "expected", "found"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_scan_says_why(
    make: Callable[[Path], object], key: str, expected: str, found: str, tmp_path: Path
) -> None:
    """The one error names the file, the key, what was expected and what was found, and nothing is written."""
    path = tmp_path / "scan.npz"
    make(path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ScanFileError) as caught:
        read_scan(path)

    assert str(path) in str(caught.value)
    problem = next(problem for problem in caught.value.problems if problem.path == key)
    assert expected in problem.expected
    assert found in problem.found
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    """A path without a file is no bad scan but a missing one."""
    with pytest.raises(FileNotFoundError, match=r"Scan file not found: .*nope\.npz"):
        read_scan(tmp_path / "nope.npz")


def test_all_problems_of_a_file_come_together(tmp_path: Path) -> None:
    """A file with a missing probe, a damaged key and equal positions is told all three at once."""
    arrays = sample_arrays() | {
        "xcoords": np.ones(3),
        "ycoords": np.ones(3),
        "scan_index": np.array([{}], dtype=object),
    }
    del arrays["probeGuess"]

    with pytest.raises(ScanFileError) as caught:
        read_scan(save_npz(tmp_path / "scan.npz", arrays))

    assert {problem.path for problem in caught.value.problems} == {"scan_index", "probeGuess", "xcoords, ycoords"}
