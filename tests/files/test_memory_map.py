"""Scans larger than the memory: their patterns stay in a file, whatever format they come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import beamline_samples as beamline
from ptycho_adapters.files import memory, read_scan, write_scan
from ptycho_core.errors import ScanFileError
from ptychodus_sample import sample_scan
from scan_arrays_sample import sample_arrays, save_npz

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptycho_core.measurement.scan import Scan


def file_of(scan: Scan) -> Path:
    assert isinstance(scan.patterns, np.memmap)
    return Path(str(scan.patterns.filename))


def check_same(mapped: Scan, in_memory: Scan) -> None:
    assert isinstance(mapped.patterns, np.memmap)
    assert mapped.patterns.mode == "r"
    assert mapped.memory_mapped
    assert not in_memory.memory_mapped
    np.testing.assert_array_equal(mapped.patterns, in_memory.patterns)
    np.testing.assert_array_equal(mapped.positions_px, in_memory.positions_px)
    np.testing.assert_array_equal(np.load(file_of(mapped)), in_memory.patterns)
    assert mapped.domain is in_memory.domain
    assert dict(mapped.metadata.extra) == dict(in_memory.metadata.extra)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".cxi", ""])
def test_a_mapped_scan_is_the_scan(suffix: str, tmp_path: Path) -> None:
    """Patterns, positions and notes are those of a reading into memory, in every format that is written."""
    path = tmp_path / f"scan{suffix}"
    write_scan(sample_scan(), path)

    mapped = read_scan(path, memory_map=tmp_path / "maps")

    check_same(mapped, read_scan(path))
    assert mapped.patterns.dtype == read_scan(path).patterns.dtype
    assert list((tmp_path / "maps").iterdir()) == [file_of(mapped)]


@pytest.mark.parametrize("name", ["cxi", "fold_slice", "ptyd"])
def test_files_of_beamlines_are_mapped(name: str, tmp_path: Path) -> None:
    """What the readers of other programs' files change on the way is changed in the map."""
    savers = {
        "cxi": lambda: beamline.save_cxi(tmp_path / "scan.cxi"),
        "fold_slice": lambda: beamline.save_fold_slice(tmp_path),
        "ptyd": lambda: beamline.save_ptyd(tmp_path / "scan.ptyd"),
    }
    path = savers[name]()

    mapped = read_scan(path, probe=beamline.the_probe, memory_map=tmp_path / "maps")

    check_same(mapped, read_scan(path, probe=beamline.the_probe))


@pytest.mark.parametrize("dtype", ["i2", "i4", "u2", "f4", "u1"])
def test_dead_pixels_and_the_corner_are_mended_in_the_map(dtype: str, tmp_path: Path) -> None:
    """Values under the mask are cleared and frames turned where they lie, with the notes of a reading into memory."""
    path = beamline.save_cxi(tmp_path / "scan.cxi")
    with h5py.File(path, "r+") as file:
        frames = np.minimum(np.fft.ifftshift(beamline.experiment().counts, axes=(1, 2)), 200)
        mask = np.zeros(frames.shape[1:], dtype=np.uint32)
        mask[3] = 1
        frames = frames.astype(dtype)
        frames[:, 3] = -1 if dtype[0] in "if" else np.iinfo(dtype).max
        beamline.replace(file, "entry_1/instrument_1/detector_1/data", frames)
        beamline.replace(file, "entry_1/instrument_1/detector_1/mask", mask)

    mapped = read_scan(path, memory_map=tmp_path / "maps")

    check_same(mapped, read_scan(path))
    assert "centre_evidence" in mapped.metadata.extra
    assert float(mapped.patterns.max()) == 200.0


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u8", ">u2", "f2", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_members_of_any_dtype_are_streamed(dtype: str, tmp_path: Path, *, compressed: bool) -> None:
    """Stored or deflated members give the values that a reading into memory gives."""
    arrays = sample_arrays()
    arrays["diff3d"] = np.minimum(np.rint(arrays["diff3d"]), 100).astype(dtype)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "scan.npz", **arrays, allow_pickle=False)

    mapped = read_scan(tmp_path / "scan.npz", domain="counts", memory_map=tmp_path)

    np.testing.assert_array_equal(
        mapped.patterns, read_scan(tmp_path / "scan.npz", domain="counts").patterns, strict=False
    )
    assert mapped.memory_mapped


def test_frames_without_a_position_are_dropped_in_the_map(tmp_path: Path) -> None:
    """Empty slots of a diffraction file go, and the map's file is shorter for it."""
    write_scan(sample_scan(), tmp_path / "scan")
    with h5py.File(tmp_path / "scan" / "diffraction.h5", "r+") as file:
        file["indexes"][2] = -1

    mapped = read_scan(tmp_path / "scan", memory_map=tmp_path)

    check_same(mapped, read_scan(tmp_path / "scan"))
    assert mapped.n_patterns == sample_scan().n_patterns - 1


def test_a_map_is_made_anew_and_leaves_the_old_scan_alone(tmp_path: Path) -> None:
    """A second reading takes the file's present content, while the first scan keeps what it had."""
    arrays = sample_arrays()
    path = save_npz(tmp_path / "scan.npz", arrays)
    first = read_scan(path, domain="counts", memory_map=tmp_path)
    before = np.array(first.patterns)
    save_npz(path, {**arrays, "diff3d": arrays["diff3d"] + 1})

    second = read_scan(path, domain="counts", memory_map=tmp_path)

    np.testing.assert_array_equal(first.patterns, before)
    np.testing.assert_array_equal(second.patterns, before + 1)
    assert file_of(first) == file_of(second)


def test_patterns_that_have_to_be_turned_are_refused(tmp_path: Path) -> None:
    """A stack with its frames along the last axis cannot be streamed, which the error says, and nothing is left."""
    arrays = sample_arrays()
    path = save_npz(
        tmp_path / "scan.npz", {**arrays, "diff3d": np.ascontiguousarray(np.moveaxis(arrays["diff3d"], 0, 2))}
    )

    with pytest.raises(ScanFileError, match=r"diff3d: expected patterns .* one after the other"):
        read_scan(path, domain="counts", memory_map=tmp_path / "maps")

    assert not list((tmp_path / "maps").iterdir())


def test_a_bad_scan_leaves_no_map(tmp_path: Path) -> None:
    """Values that are no measurement are found piece by piece, and the unfinished file goes."""
    arrays = sample_arrays()
    patterns = arrays["diff3d"].astype(np.float32)
    patterns[1, 2, 3] = np.nan
    path = save_npz(tmp_path / "scan.npz", {**arrays, "diff3d": patterns})

    with pytest.raises(ScanFileError, match="1 NaN or infinite values"):
        read_scan(path, domain="counts", memory_map=tmp_path / "maps", detector_check="off")

    assert not list((tmp_path / "maps").iterdir())


def test_patterns_that_do_not_fit_may_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error about memory proposes the map, and with it the scan is read."""
    arrays = sample_arrays()
    path = save_npz(tmp_path / "scan.npz", {**arrays, "diff3d": arrays["diff3d"].astype(np.float64)})
    size = 4 * arrays["diff3d"].nbytes
    monkeypatch.setattr(memory, "_SMALL_BYTES", size)
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * size - 1)

    with pytest.raises(ScanFileError, match=r"diff3d: .* --memory-map FOLDER"):
        read_scan(path, domain="counts")

    assert read_scan(path, domain="counts", memory_map=tmp_path).memory_mapped


PEAK = """
import json, os, resource, sys
import h5py
import torch
from ptycho_adapters.files import read_scan
from ptycho_adapters.torch_backend.data.resident import ResidentScan
for path in sys.argv[2:]:
    if os.fork() == 0:  # a peak of its own for each
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        scan = read_scan(path, memory_map=sys.argv[1])
        ResidentScan(scan).gather(torch.arange(64)[None])
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"grown": (after - before) * 1024, "stack": scan.patterns.nbytes}), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""
_SIZE, _N_PATTERNS = 64, 8000


def _save_large_cxi(path: Path, frame: npt.NDArray[np.float32]) -> Path:
    beamline.save_cxi(path)
    with h5py.File(path, "r+") as file:
        key = "entry_1/instrument_1/detector_1/data"
        del file[key], file["entry_1/instrument_1/detector_1/mask"]
        del file["entry_1/sample_1/geometry_1/translation"], file["entry_1/image_1"]
        file["entry_1/sample_1/geometry_1/translation"] = np.arange(3 * _N_PATTERNS).reshape(-1, 3) * 1e-7
        file["entry_1/image_1/data"] = np.ones(frame.shape, np.complex64)[None]
        shape = (_N_PATTERNS, *frame.shape)
        stack = file.create_dataset(key, shape, np.float32, chunks=(16, *frame.shape), compression=1)
        stack[...] = np.broadcast_to(frame, shape)
    return path


def _save_large_npz(path: Path, frame: npt.NDArray[np.float32], method: int) -> Path:
    coordinates = np.arange(float(_N_PATTERNS))
    arrays = {
        "diff3d": np.broadcast_to(frame, (_N_PATTERNS, *frame.shape)),
        "xcoords": coordinates,
        "ycoords": coordinates,
        "probeGuess": np.ones(frame.shape, np.complex64),
    }
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    return path


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_a_mapped_stack_is_never_in_memory(tmp_path: Path) -> None:
    """Reading 130 MB of patterns and gathering some takes under 80 MB at the peak, pages of the map included."""
    frame = np.random.default_rng(0).poisson(0.2, (_SIZE, _SIZE)).astype(np.float32)  # quick to deflate
    paths = (
        _save_large_npz(tmp_path / "stored.npz", frame, zipfile.ZIP_STORED),
        _save_large_npz(tmp_path / "deflated.npz", frame, zipfile.ZIP_DEFLATED),
        _save_large_cxi(tmp_path / "scan.cxi", frame),
    )

    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), *map(str, paths)], capture_output=True, text=True, check=True
    )

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["stack"] for one in found] == 3 * [4 * _N_PATTERNS * _SIZE * _SIZE]
    assert 4 * _N_PATTERNS * _SIZE * _SIZE > 130e6
    assert all(one["grown"] < 80e6 for one in found), found
