"""Complex images in TIFF files, in the two layouts that other programs take.

`real-imaginary`: two float32 pages per image, real part first, as an ImageJ stack of two channels. Any program that
knows 32-bit TIFF opens it: ImageJ and Fiji, MATLAB, Pillow, napari, tifffile.

`complex`: one complex64 page per image (TIFF sample format 6). Only programs that know complex samples open it, such as
tifffile, scikit-image and GDAL; ImageJ and Pillow do not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.images.tiff_pages import read_pages
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.arrays import as_complex

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

Complex64: TypeAlias = npt.NDArray[np.complex64]

_LABELS = ("real", "imaginary")


class TiffLayout(StrEnum):
    """How complex numbers lie in the pages of a TIFF file."""

    REAL_IMAGINARY = "real-imaginary"
    COMPLEX = "complex"


def write_complex_tiff(array: npt.NDArray[np.complexfloating], path: str | Path, *, layout: TiffLayout) -> None:
    """Write an object, a probe or a stack of them so that `read_complex_tiff` gives back the same numbers; atomic.

    Args:
        array: (H, W) or (images, H, W) complex; kept as complex64.
        path: TIFF file.
        layout: one complex page per image, or two real ones.

    Raises:
        ValueError: for an array of another rank, or a number too large for complex64.
        OSError: from the file system; an existing file is then as it was.
    """
    import tifffile  # noqa: PLC0415 - only who writes a TIFF needs it

    if array.ndim not in (2, 3):
        raise ValueError(f"array: expected (H, W) or (images, H, W), found shape {array.shape}")
    values = as_complex(array)
    if (np.isinf(values) & np.isfinite(array)).any():
        raise ValueError(f"array: expected numbers that complex64 holds, found {np.abs(array).max():.3g}")
    with atomic_path(path) as partial:
        if layout is TiffLayout.COMPLEX:
            tifffile.imwrite(partial, values, photometric="minisblack", metadata=None)
            return
        pages = np.stack([values.real, values.imag], axis=-3)
        axes = "CYX" if array.ndim == 2 else "ZCYX"
        labels = list(_LABELS) * (1 if array.ndim == 2 else len(array))
        tifffile.imwrite(partial, pages, imagej=True, metadata={"axes": axes, "Labels": labels, "mode": "grayscale"})


def read_complex_tiff(path: Path) -> Complex64:
    """Read complex images from a TIFF file of either layout.

    Args:
        path: uncompressed TIFF: complex pages, or pairs of real ones, real part first.

    Returns:
        (images, H, W) complex64.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it is no such TIFF file.
    """
    try:
        pages = read_pages(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        pages = Problem(path="file", expected="a readable file", found=error.strerror or type(error).__name__)
    images = pages if isinstance(pages, Problem) else _images(pages)
    if isinstance(images, Problem):
        raise ScanFileError(str(path), [images])
    return images


def _images(pages: Sequence[AnyArray]) -> Complex64 | Problem:
    first = pages[0]
    if any(page.shape != first.shape or page.dtype != first.dtype for page in pages):
        return Problem(path="file", expected="pages that are alike", found="pages of several sizes or types")
    # A number too large for complex64 becomes infinite here and is refused by whoever uses it.
    with np.errstate(over="ignore", invalid="ignore"):
        if first.dtype.kind == "c":
            return np.stack(pages).astype(np.complex64)
        if len(pages) % 2:
            return Problem(path="file", expected="pairs of real and imaginary pages", found=f"{len(pages)} pages")
        joined = np.empty((len(pages) // 2, *first.shape), dtype=np.complex64)
        joined.real, joined.imag = pages[0::2], pages[1::2]
    return joined
