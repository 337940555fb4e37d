"""Objects with their place, from products and NPZ files, for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.files import read_product
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_member
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.arrays import as_complex
from ptycho_core.results.product import Product

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path

_HDF5 = b"\x89HDF\r\n\x1a\n"
_KEYS = ("object", "objectGuess")


@attrs.frozen(kw_only=True, eq=False)
class PlacedObject:
    """An object on pixels.

    Attributes:
        object: (H, W) complex64.
        origin_px: (y, x) of pixel [0, 0] in the frame of the positions.
        coverage: (H, W) float32, 0 where nothing was measured; None when unknown.
        product: what it was read from, if that is a product.
    """

    object: NDArray[np.complex64]
    origin_px: tuple[int, int]
    coverage: NDArray[np.float32] | None
    product: Product | None = None


def read_object(path: Path) -> PlacedObject:
    """Read an object from an HDF5 product or from `object` or `objectGuess` of an NPZ file, whose origin is (0, 0).

    A product whose origin lies between pixels is taken to the nearest one; comparisons register the rest.

    Args:
        path: the file; its content decides on the format.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it holds no object.
    """
    with path.open("rb") as stream:
        head = stream.read(len(_HDF5))
    if head == _HDF5:
        product = read_product(path)
        y, x = product.origin_px
        origin = (round(y), round(x))
        return PlacedObject(object=product.object, origin_px=origin, coverage=product.coverage, product=product)
    archive = open_archive(path)
    if isinstance(archive, Problem):
        expected = "an HDF5 product or an NPZ file with an object"
        raise ScanFileError(str(path), [attrs.evolve(archive, expected=expected)])
    with archive:
        return PlacedObject(object=_from_npz(archive, path), origin_px=(0, 0), coverage=None)


def _from_npz(archive: zipfile.ZipFile, path: Path) -> NDArray[np.complex64]:
    infos = member_keys(archive)
    if isinstance(infos, Problem):
        raise ScanFileError(str(path), [infos])
    key = next((key for key in _KEYS if key in infos), None)
    if key is None:
        found = f"only {', '.join(sorted(infos)) or 'nothing'}"
        raise ScanFileError(str(path), [Problem(path=" or ".join(_KEYS), expected="an object", found=found)])
    array = read_member(archive, infos[key])
    if isinstance(array, Problem):
        raise ScanFileError(str(path), [array])
    values = as_complex(array)
    if array.ndim != 2 or array.dtype.kind != "c" or not np.isfinite(values).all():
        found = f"shape {array.shape} of {array.dtype}"
        raise ScanFileError(str(path), [Problem(path=key, expected="a finite complex (H, W) array", found=found)])
    return values
