"""Products in any container: read by content, written by suffix."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.products.contents import ProductContents, product_from
from ptycho_adapters.files.products.hdf5 import read_h5_contents, write_product_h5
from ptycho_adapters.files.products.npz import read_npz_contents, write_product_npz
from ptycho_adapters.files.reading import Container, Evidence
from ptycho_core.errors import ConfigError, Problem, ScanFileError
from ptycho_core.measurement.scan import ScanMetadata  # noqa: TC001 - signatures are read at run time too
from ptycho_core.results.conversion import as_product
from ptycho_core.results.product import Product
from ptycho_core.results.reconstruction import Reconstruction

_WRITERS = {".h5": write_product_h5, ".hdf5": write_product_h5, ".npz": write_product_npz}
_MARK = "probe_position_x_m"


def is_product(evidence: Evidence) -> bool:
    """Tell whether a file is a Ptychodus product, in HDF5 or NPZ."""
    return evidence.is_hdf5_with(_MARK) or evidence.is_npz_with(_MARK)


def read_product(path: str | Path) -> Product:
    """Read a product, ours or the client's (old names included), in HDF5 or NPZ.

    Args:
        path: the file; its content decides on the container.

    Returns:
        The product; coverage, gauge, metrics and provenance are unknown for files that are not ours.

    Raises:
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no product of one object layer and one probe, with every problem there is.
    """
    path = Path(path)
    if not path.exists():
        msg = f"Product file not found: {path}"
        raise FileNotFoundError(msg)
    return product_from(read_contents(path), str(path))


def read_contents(path: Path) -> ProductContents:
    """Read everything that a product may hold; what is missing or damaged is among the problems.

    Raises:
        ScanFileError: when it is neither an HDF5 nor an NPZ file.
    """
    evidence = gather_evidence(path)
    if evidence.container is Container.HDF5:
        return read_h5_contents(path)
    if evidence.container is Container.ZIP:
        return read_npz_contents(path)
    found = "a folder" if evidence.container is Container.FOLDER else f"a file starting {evidence.head!r}"
    problem = Problem(path="file", expected="a readable HDF5 or NPZ product", found=found)
    raise ScanFileError(str(path), [problem])


@overload
def write_product(result: Product, path: str | Path) -> None: ...
@overload
def write_product(result: Reconstruction, path: str | Path, *, metadata: ScanMetadata | None = None) -> None: ...
def write_product(result: Product | Reconstruction, path: str | Path, *, metadata: ScanMetadata | None = None) -> None:
    """Write a result so that `read_product` gives it back and the Ptychodus client opens it; atomic.

    Args:
        result: a product, which comes back equal, or a reconstruction, which becomes one: its findings, residuals and
            figures are kept; settings and losses of a training are not in it.
        path: where to, ending in .h5, .hdf5 or .npz; an existing file is replaced.
        metadata: of the scan that a reconstruction was made from: name, pixel size, wavelength and distance. A product
            has its own.

    Raises:
        ConfigError: when the path ends in something else, or metadata are given beside a product.
        ScanError: when the reconstruction holds what no product can, such as values that are not finite.
        TypeError: when the result is of another kind.
        OSError: from the file system; an existing file is then as it was.
    """
    product, path = _as_product(result, metadata), Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        problem = Problem(path="path", expected=f"a name ending in {', '.join(_WRITERS)}", found=path.name)
        raise ConfigError("write_product", [problem])
    write(product, path)


def _as_product(result: object, metadata: ScanMetadata | None) -> Product:
    if isinstance(result, Reconstruction):
        return as_product(result, metadata)
    if not isinstance(result, Product):
        message = f"write_product: expected a Product or a Reconstruction, found {type(result).__name__}"
        raise TypeError(message)
    if metadata is not None:
        expected = "none beside a product, which has its own"
        raise ConfigError("write_product", [Problem(path="metadata", expected=expected, found=repr(metadata))])
    return result
