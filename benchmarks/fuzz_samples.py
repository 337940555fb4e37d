"""Valid files of every format that the readers know, to be damaged by `fuzz_readers.py`."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import beamline_samples
import ptychodus_sample
from ptycho_adapters.files import probe_from_file, read_file_facts, read_product, read_scan, write_product, write_scan
from ptycho_adapters.files.images.complex_tiff import TiffLayout, write_complex_tiff
from scan_arrays_sample import sample_arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ptycho_adapters.files import ProbeSetting


class Sample:
    """A valid file and how it is read.

    Attributes:
        name: of the sample.
        files: the files to lie in the folder, by path in it.
        target: the one to damage.
        read: what is called on the folder.
    """

    def __init__(self, name: str, files: dict[str, bytes], target: str, read: Callable[[Path], object]) -> None:
        self.name, self.files, self.target, self.read = name, files, target, read


def samples(scratch: Path) -> list[Sample]:
    """Build every sample; the scratch folder is left full."""
    made = [*_scans(scratch), *_pairs(scratch), *_products(scratch), *_probes(scratch)]
    for sample in made:
        folder = scratch / f"check {sample.name}"
        _lay_out(sample.files, folder)
        sample.read(folder)
    return made


def lay_out(sample: Sample, folder: Path) -> Path:
    """Write a sample's files, and return the path of the one to damage."""
    _lay_out(sample.files, folder)
    return folder / sample.target


def _lay_out(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def even_probe(setting: ProbeSetting) -> npt.NDArray[np.complex64]:
    """A probe of any size, for scans without one."""
    return np.full((setting.size_px, setting.size_px), 1.0 + 0.0j, dtype=np.complex64)


def _read_scan(target: str, **options: object) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        read_file_facts(folder / target)
        product = options.get("product")
        return read_scan(
            folder / target,
            domain="counts",
            probe=even_probe if options.get("bare") else None,
            product=folder / str(product) if product else None,
        )

    return read


def _scans(scratch: Path) -> list[Sample]:
    """Scans in one file each."""
    scan = ptychodus_sample.sample_scan()
    made = []
    for name, suffix, form in (
        ("NPZ own", "npz", "npz"),
        ("CXI own", "cxi", "cxi"),
        ("Ptychodus training", "h5", "ptychodus-training"),
    ):
        path = scratch / f"{form}.{suffix}"
        write_scan(scan, path, format=form)
        made.append(Sample(name, {f"scan.{suffix}": path.read_bytes()}, f"scan.{suffix}", _read_scan(f"scan.{suffix}")))
    arrays = sample_arrays()
    made.append(Sample("NPZ legacy", {"s.npz": _npz(arrays)}, "s.npz", _read_scan("s.npz")))
    arrays["diffraction"] = np.moveaxis(arrays.pop("diff3d"), 0, 2)
    made.append(Sample("NPZ patterns last", {"s.npz": _npz(arrays)}, "s.npz", _read_scan("s.npz")))
    cxi = beamline_samples.save_cxi(scratch / "foreign.cxi").read_bytes()
    made.append(Sample("CXI foreign", {"s.cxi": cxi}, "s.cxi", _read_scan("s.cxi")))
    made.append(Sample("CXI large", {"s.cxi": _large_cxi(scratch)}, "s.cxi", _read_scan("s.cxi", bare=True)))
    made.append(
        Sample("CXI new HDF5", {"s.cxi": _large_cxi(scratch, new=True)}, "s.cxi", _read_scan("s.cxi", bare=True))
    )
    ptyd = beamline_samples.save_ptyd(scratch / "s.ptyd").read_bytes()
    made.append(Sample("PtyPy", {"s.ptyd": ptyd}, "s.ptyd", _read_scan("s.ptyd", bare=True)))
    return made


def _large_cxi(scratch: Path, *, new: bool = False) -> bytes:
    """Half a megabyte of frames without compression, and the geometry."""
    path = beamline_samples.save_cxi(scratch / "large.cxi", probe=False)
    rng = np.random.default_rng(0)
    target = scratch / f"large{int(new)}.cxi"
    with h5py.File(path, "r") as source, h5py.File(target, "w", libver="latest" if new else "earliest") as file:
        source.copy("entry_1", file)
        detector = file["entry_1/instrument_1/detector_1"]
        n_patterns = 128
        del detector["data"], detector["mask"], file["entry_1/sample_1/geometry_1/translation"]
        counts = rng.poisson(3.0, (n_patterns, 48, 48)).astype(np.uint16)
        detector.create_dataset("data", data=counts, chunks=(8, 48, 48) if new else None)
        file["entry_1/sample_1/geometry_1/translation"] = rng.normal(size=(n_patterns, 3)) * 1e-6
    return target.read_bytes()


def _pairs(scratch: Path) -> list[Sample]:
    """Scans in two files: one is damaged, the other whole."""
    scan = ptychodus_sample.sample_scan()
    write_scan(scan, scratch / "workflow", format="ptychodus")
    files = {path.name: path.read_bytes() for path in sorted((scratch / "workflow").iterdir()) if path.is_file()}
    made = [Sample(f"Ptychodus folder, {name}", files, name, _read_scan(".")) for name in files]
    (scratch / "fold").mkdir()
    data = beamline_samples.save_fold_slice(scratch / "fold")
    pair = {path.name: path.read_bytes() for path in sorted((scratch / "fold").iterdir())}
    made += [Sample(f"PtychoShelves, {name}", pair, name, _read_scan(data.name, bare=True)) for name in pair]
    return made


def _products(scratch: Path) -> list[Sample]:
    made = []
    for suffix in ("h5", "npz"):
        path = scratch / f"product.{suffix}"
        write_product(ptychodus_sample.sample_product(), path)
        made.append(
            Sample(f"product {suffix}", {path.name: path.read_bytes()}, path.name, _on(path.name, read_product))
        )
    return made


def _probes(scratch: Path) -> list[Sample]:
    """Files that only a probe is taken from."""
    probe = beamline_samples.experiment().probe
    made = []
    buffer = io.BytesIO()
    np.save(buffer, probe)
    made.append(Sample("probe npy", {"p.npy": buffer.getvalue()}, "p.npy", _on("p.npy", probe_from_file)))
    for layout in TiffLayout:
        write_complex_tiff(probe, scratch / f"{layout}.tif", layout=layout)
        content = (scratch / f"{layout}.tif").read_bytes()
        made.append(Sample(f"probe TIFF {layout}", {"p.tif": content}, "p.tif", _on("p.tif", probe_from_file)))
    record = np.empty(probe.shape, dtype=[("real", "<f8"), ("imag", "<f8")])
    record["real"], record["imag"] = probe.real, probe.imag
    with h5py.File(scratch / "matlab.mat", "w") as file:
        file["probe"] = record
    content = (scratch / "matlab.mat").read_bytes()
    made.append(Sample("probe MATLAB", {"p.mat": content}, "p.mat", _on("p.mat", probe_from_file)))
    return made


def _on(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: read(folder / name)


def _npz(arrays: dict[str, npt.NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    """The members of a zip file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
