"""Complex TIFF: what is written comes back, and other programs open it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from ptycho_adapters.files.images.complex_tiff import TiffLayout, read_complex_tiff, write_complex_tiff
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from pathlib import Path


def images(*shape: int) -> npt.NDArray[np.complex64]:
    rng = np.random.default_rng(3)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 4, 4)])
@pytest.mark.parametrize("layout", TiffLayout)
def test_numbers_survive(layout: TiffLayout, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Either layout gives back every number of every image."""
    array = images(*shape)

    write_complex_tiff(array, tmp_path / "a.tif", layout=layout)

    assert np.array_equal(read_complex_tiff(tmp_path / "a.tif"), array.reshape(-1, *shape[-2:]))


def test_two_real_pages_open_in_programs_without_complex_numbers(tmp_path: Path) -> None:
    """Pillow, which knows no complex samples, sees real and imaginary part as 32-bit pages."""
    image = pytest.importorskip("PIL.Image")
    array = images(5, 7)

    write_complex_tiff(array, tmp_path / "a.tif", layout=TiffLayout.REAL_IMAGINARY)

    with image.open(tmp_path / "a.tif") as opened:
        pages = []
        for number in range(opened.n_frames):
            opened.seek(number)
            pages.append(np.asarray(opened))
    assert np.array_equal(pages, [array.real, array.imag])


@pytest.mark.parametrize(
    ("bigtiff", "byteorder", "rows"), [(True, "<", None), (False, ">", None), (False, "<", 2), (True, ">", 3)]
)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_plain_files_of_other_writers_are_read(
    bigtiff: bool, byteorder: Literal["<", ">"], rows: int | None, dtype: type[np.complexfloating], tmp_path: Path
) -> None:
    """64-bit offsets, either byte order, several strips and double precision."""
    array = images(3, 8, 6).astype(dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff, byteorder=byteorder) as writer:
        for page in array:
            writer.write(page, photometric="minisblack", rowsperstrip=rows, contiguous=False)

    assert np.array_equal(read_complex_tiff(tmp_path / "a.tif"), array.astype(np.complex64))


@pytest.mark.parametrize("compression", ["zlib", None])
def test_compressed_and_tiled_files_are_refused(compression: str | None, tmp_path: Path) -> None:
    """Only plain strips are read; the rest is named."""
    tile = None if compression else (16, 16)
    array = images(16, 16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", compression=compression, tile=tile)

    with pytest.raises(ScanFileError, match="expected uncompressed float or complex pages in strips"):
        read_complex_tiff(tmp_path / "a.tif")


def test_directories_in_a_circle_end(tmp_path: Path) -> None:
    """A file whose last directory points back at its first is refused at once."""
    write_complex_tiff(images(4, 4), tmp_path / "a.tif", layout=TiffLayout.COMPLEX)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    first = int.from_bytes(content[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    content[after : after + 4] = content[4:8]
    (tmp_path / "a.tif").write_bytes(content)

    with pytest.raises(ScanFileError, match="pages that do not share their numbers"):
        read_complex_tiff(tmp_path / "a.tif")


def test_an_imagej_stack_names_its_channels(tmp_path: Path) -> None:
    """ImageJ shows two channels called real and imaginary."""
    write_complex_tiff(images(2, 4, 6), tmp_path / "a.tif", layout=TiffLayout.REAL_IMAGINARY)

    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.imagej_metadata is not None
        assert tiff.imagej_metadata["channels"] == 2
        assert tiff.imagej_metadata["Labels"] == ["real", "imaginary"] * 2


def test_an_array_of_another_rank_is_refused(tmp_path: Path) -> None:
    """Only images and stacks of them are written."""
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        write_complex_tiff(images(4), tmp_path / "a.tif", layout=TiffLayout.COMPLEX)


def test_numbers_that_the_pages_do_not_hold_are_refused(tmp_path: Path) -> None:
    """What would become infinite is not written; what is infinite already stays so."""
    with pytest.raises(ValueError, match="expected numbers that complex64 holds"):
        write_complex_tiff(np.full((4, 5), 1e39 + 0j), tmp_path / "a.tif", layout=TiffLayout.COMPLEX)
    assert not list(tmp_path.iterdir())

    write_complex_tiff(np.full((4, 5), complex(np.inf, 0)), tmp_path / "a.tif", layout=TiffLayout.COMPLEX)
    assert np.isinf(read_complex_tiff(tmp_path / "a.tif")).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 5), dtype=np.uint8), "uncompressed float or complex pages in strips, found 1 samples of 8 bits"),
        (np.zeros((3, 4, 5), dtype=np.float32), "pairs of real and imaginary pages, found 3 pages"),
    ],
)
def test_other_pictures_are_refused(content: npt.NDArray[np.generic], message: str, tmp_path: Path) -> None:
    """A TIFF that holds no complex image is named as such."""
    tifffile.imwrite(tmp_path / "a.tif", content, photometric="minisblack")

    with pytest.raises(ScanFileError, match=message):
        read_complex_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("length", [0, 4, 100, 300])
def test_a_cut_file_is_refused(length: int, tmp_path: Path) -> None:
    """Damage is an error with a message."""
    write_complex_tiff(images(8, 8), tmp_path / "a.tif", layout=TiffLayout.COMPLEX)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:length])

    with pytest.raises(ScanFileError, match=r"a.tif:\n  - file: expected"):
        read_complex_tiff(tmp_path / "a.tif")
