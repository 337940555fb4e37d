"""Well-formed files with anything in them: a scan or a product comes out, or the one error, and nothing else."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptycho_adapters.files import read_file_facts, read_product, read_scan, write_product, write_scan
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.scan import Scan, ScanMetadata
from ptycho_core.results.product import Product

if TYPE_CHECKING:
    from collections.abc import Callable

_DTYPES = st.sampled_from([np.dtype(name) for name in ("f8", "f4", "i8", "u2", "i1", "c8", "?", "S3")])
_ARRAYS = hnp.arrays(_DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
_SINGLE = st.one_of(
    st.integers(-(2**31), 2**31), st.floats(), st.text(max_size=5).filter(lambda text: "\0" not in text)
)


def _scan() -> Scan:
    return Scan(
        patterns=np.full((3, 4, 4), 7, dtype=np.uint16),
        domain="counts",
        positions_px=[[2.0, 2.0], [3.0, 4.5], [5.0, 3.0]],
        probe=np.ones((2, 4, 4)),
        object=np.ones((8, 9)),
        bad_pixels=np.eye(4, dtype=np.bool_),
        scan_index=[0, 1, 1],
        commanded_positions_px=[[2.0, 2.0], [3.0, 4.0], [5.0, 3.0]],
        metadata=ScanMetadata(name="a", nphotons=112.0, pixel_size_m=1e-8, wavelength_m=1e-10, distance_m=2.0),
    )


def _product() -> Product:
    return Product(
        object=np.ones((8, 9)),
        origin_px=(1.0, -2.0),
        probe=np.ones((2, 4, 4)),
        positions_px=[[2.0, 2.0], [3.0, 4.5]],
        position_indexes=[0, 1],
        coverage=np.ones((8, 9)),
        loss_epochs=[1, 2],
        loss_values=[3.0, 2.0],
        code_version="1",
        name="a",
    )


@functools.cache
def _valid_files() -> dict[str, bytes]:
    """The content of every valid file, by its path in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scan(_scan(), root / "scan.h5")
        write_scan(_scan(), root / "run")
        for suffix in (".h5", ".npz"):
            write_product(_product(), root / f"product{suffix}")
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _lay_out(folder: str) -> Path:
    """Put all valid files into a folder."""
    for name, content in _valid_files().items():
        path = Path(folder) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return Path(folder)


def _spoil_h5(path: Path, data: st.DataObject) -> None:
    """Put anything in the place of a few datasets and attributes, or nothing."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for name in data.draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=3, unique=True)):
            if name not in file:
                continue
            node: Any = file[name]
            attributes: dict[str, Any] = dict(node.attrs)
            change_attribute: bool = data.draw(st.booleans())
            if attributes and change_attribute:
                key = data.draw(st.sampled_from(sorted(attributes)))
                node.attrs[key] = data.draw(st.one_of(_SINGLE, _ARRAYS))
                continue
            del file[name]
            if data.draw(st.integers(0, 3)):
                file[name] = data.draw(_ARRAYS)
                file[name].attrs.update(attributes)


def _spoil_npz(path: Path, data: st.DataObject) -> None:
    with np.load(path) as archive:
        arrays: dict[str, npt.NDArray[np.generic]] = {key: archive[key] for key in archive.files}
    for key in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=3, unique=True)):
        del arrays[key]
        if data.draw(st.integers(0, 3)):
            arrays[key] = data.draw(_ARRAYS)
    np.savez(path, allow_pickle=False, **arrays)


def _outcome(read: Callable[[Path], object], path: Path) -> str | None:
    """Give None for a result and for an error that names the file, the error's text otherwise."""
    try:
        read(path)
    except ScanFileError as error:
        return None if str(path) in str(error) else str(error)
    return None


@given(st.data())
def test_a_training_file_of_anything(data: st.DataObject) -> None:
    """A training file whose parts are exchanged gives a scan or ScanFileError, and so do its facts."""
    with tempfile.TemporaryDirectory() as folder:
        path = _lay_out(folder) / "scan.h5"
        _spoil_h5(path, data)

        assert _outcome(read_scan, path) is None
        assert _outcome(read_file_facts, path) is None


@given(st.data())
def test_a_folder_of_anything(data: st.DataObject) -> None:
    """A diffraction file and a product whose parts are exchanged give a scan or ScanFileError."""
    with tempfile.TemporaryDirectory() as folder:
        path = _lay_out(folder) / "run"
        _spoil_h5(path / data.draw(st.sampled_from(["diffraction.h5", "product.h5"])), data)

        assert _outcome(read_scan, path) is None


@given(st.data(), st.sampled_from([".h5", ".npz"]))
def test_a_product_of_anything(data: st.DataObject, suffix: str) -> None:
    """A product whose parts are exchanged gives a product or ScanFileError, alone and beside a diffraction file."""
    with tempfile.TemporaryDirectory() as folder:
        path = _lay_out(folder) / f"product{suffix}"
        (_spoil_h5 if suffix == ".h5" else _spoil_npz)(path, data)

        assert _outcome(read_product, path) is None
        diffraction = Path(folder) / "run" / "diffraction.h5"
        assert _outcome(functools.partial(read_scan, product=path), diffraction) is None
