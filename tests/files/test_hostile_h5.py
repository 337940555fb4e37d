"""HDF5 files that promise more than they hold, lead elsewhere, or keep the HDF5 library busy."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from ptycho_adapters.files import read_file_facts, read_product, read_scan, write_product, write_scan
from ptycho_adapters.files.hdf5.heaps import heaps_are_sound
from ptycho_core.errors import ScanFileError
from ptychodus_sample import sample_product, sample_scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HUGE = (1_000_000, 512, 512)


def _training_file(path: Path) -> Path:
    write_scan(sample_scan(), path)
    return path


def _replace(path: Path, make: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        del file["patterns"]
        make(file)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda file: file.create_dataset("patterns", _HUGE, "u2", chunks=(1, 512, 512)), "0: it is incomplete"),
        (lambda file: file.create_dataset("patterns", _HUGE, "u2"), "bytes for"),
        (lambda file: file.create_dataset("patterns", _HUGE, "u2", fillvalue=7, chunks=(8, 64, 64)), "incomplete"),
    ],
)
def test_a_shape_that_nothing_fills_is_refused(make: Callable[[h5py.File], object], found: str, tmp_path: Path) -> None:
    """Half a terabyte in a file of kilobytes is an error before anything is allocated."""
    path = _training_file(tmp_path / "scan.h5")
    _replace(path, make)

    with pytest.raises(ScanFileError, match=f"patterns: expected .*{found}"):
        read_scan(path)


def test_the_size_of_a_stack_is_known_without_reading_it(tmp_path: Path) -> None:
    """Facts of half a terabyte come from the header alone."""
    path = _training_file(tmp_path / "scan.h5")
    _replace(path, lambda file: file.create_dataset("patterns", _HUGE, "u2", chunks=(1, 512, 512)))

    facts = read_file_facts(path)

    assert (facts.n_patterns, facts.frame, str(facts.dtype)) == (1_000_000, (512, 512), "uint16")
    assert facts.pattern_bytes == 524_288_000_000


def test_a_link_to_another_file_is_not_followed(tmp_path: Path) -> None:
    """External links, raw external data and virtual datasets are named, and the other file is not opened."""
    path = _training_file(tmp_path / "scan.h5")
    other = _training_file(tmp_path / "other.h5")
    _replace(path, lambda file: file.__setitem__("patterns", h5py.ExternalLink(str(other), "/patterns")))

    with pytest.raises(ScanFileError, match=r"patterns|a scan in"):
        read_scan(path)


@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_data_that_lie_in_other_files_are_refused(kind: str, tmp_path: Path) -> None:
    """The patterns have to be in the file itself."""
    path = _training_file(tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        shape, dtype = file["patterns"].shape, file["patterns"].dtype
        del file["patterns"]
        if kind == "external":
            raw = [(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("patterns", shape, dtype, external=raw)
        else:
            layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "patterns", shape=shape)
            file.create_virtual_dataset("patterns", layout)

    with pytest.raises(ScanFileError, match="patterns: expected data in this file, or in one of its folder, found"):
        read_scan(path)


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    """Soft links that point at each other and groups that contain themselves are no reason to hang."""
    path = _training_file(tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file["loop"] = file["/"]
        file["soft_loop"] = h5py.SoftLink("/")
        for index in range(40):
            file.create_group(f"group{index}")[f"back{index}"] = file["/"]

    assert read_scan(path).n_patterns == 7


def test_a_soft_link_within_the_file_is_followed(tmp_path: Path) -> None:
    """Data may lie elsewhere in the same file."""
    path = _training_file(tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        file.move("patterns", "entry/raw/frames")
        file["entry/link"] = h5py.SoftLink("raw/frames")
        file["patterns"] = h5py.SoftLink("/entry/link")

    assert np.array_equal(read_scan(path).patterns, sample_scan().patterns)


def test_a_compression_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """The filter's number and the way to get it stand in the error."""
    path = _training_file(tmp_path / "scan.h5")

    def with_unknown_filter(file: h5py.File) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1, 16, 16))
        properties.set_filter(39_999, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((7, 16, 16))
        dataset = h5py.h5d.create(file.id, b"patterns", h5py.h5t.NATIVE_UINT16, space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones((7, 16, 16), dtype=np.uint16))

    _replace(path, with_unknown_filter)

    with pytest.raises(ScanFileError, match=r"found filter 39999 .*; pip install hdf5plugin"):
        read_scan(path)


def _with_endless_heap(path: Path) -> None:
    """Set the size of a heap's free space to zero, which the HDF5 library walks for ever."""
    write_product(sample_product(), path)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    size = int.from_bytes(content[heap + 8 : heap + 16], "little")
    position = heap + 16
    while int.from_bytes(content[position : position + 2], "little") != 0:
        length = int.from_bytes(content[position + 8 : position + 16], "little")
        position += 16 + -(-length // 8) * 8
    assert position < heap + size
    content[position + 8 : position + 16] = bytes(8)
    path.write_bytes(content)


def test_an_endless_heap_is_refused_in_time(tmp_path: Path) -> None:
    """A damaged heap of texts is found before the HDF5 library is asked; a child process proves that it returns.

    The child may use a minute of the processor, however long that takes on a busy machine.
    """
    path = tmp_path / "product.h5"
    _with_endless_heap(path)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "from ptycho_adapters.files import read_product\n"
        "try: read_product(sys.argv[1])\n"
        "except ValueError as error: sys.exit('heap' in str(error) and 3)"
    )

    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    assert done.returncode == 3


def test_heaps_are_walked_to_their_end(tmp_path: Path) -> None:
    """A whole file is sound, wherever the heap's first letters fall; a cut or endless heap is not."""
    path = tmp_path / "product.h5"
    write_product(sample_product(), path)
    assert heaps_are_sound(path)
    content = path.read_bytes()
    for length in (10, content.index(b"GCOL") + 6, content.index(b"GCOL") + 40):
        path.write_bytes(content[:length])
        assert not heaps_are_sound(path)
    _with_endless_heap(path)
    assert not heaps_are_sound(path)


@pytest.mark.parametrize("length", [0, 9, 100, 800, 3000, 5000])
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    """Half a file is an error of the file, never a scan."""
    path = _training_file(tmp_path / "scan.h5")
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(ScanFileError, match=r"scan\.h5"):
        read_scan(path)


def test_a_product_with_a_false_size_is_refused(tmp_path: Path) -> None:
    """Products are measured before they are read, too."""
    write_product(sample_product(), tmp_path / "product.h5")
    with h5py.File(tmp_path / "product.h5", "r+") as file:
        attributes = dict(file["object"].attrs)
        del file["object"]
        file.create_dataset("object", (1, 100_000, 100_000), "c8", chunks=(1, 512, 512)).attrs.update(attributes)

    with pytest.raises(ScanFileError, match=r"object: expected .* it is incomplete"):
        read_product(tmp_path / "product.h5")
