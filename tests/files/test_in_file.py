"""Patterns that stay in their HDF5 file: the scan is the one that a reading into memory gives, in every layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import beamline_samples as beamline
from ptycho_adapters.files import in_file, open_scan, read_scan, write_scan
from ptycho_adapters.files.hdf5 import frames
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.stored import StoredPatterns, joined, stored
from ptychodus_sample import sample_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

DATA = f"{beamline.DETECTOR}/data"


def check_same(left: Scan, in_memory: Scan) -> None:
    assert stored(left.patterns) is not None
    assert left.memory_mapped
    assert left.patterns.dtype == in_memory.patterns.dtype
    np.testing.assert_array_equal(left.patterns[:], in_memory.patterns)
    np.testing.assert_array_equal(left.counts(np.array([3, 1, 1])), in_memory.counts(np.array([3, 1, 1])))
    np.testing.assert_array_equal(left.positions_px, in_memory.positions_px)
    np.testing.assert_array_equal(left.subset([2, 0]).patterns[:], in_memory.subset([2, 0]).patterns)
    assert left.domain is in_memory.domain
    assert dict(left.metadata.extra) == dict(in_memory.metadata.extra)


@pytest.mark.parametrize("name", [".h5", ".cxi", "", "fold_slice", "ptyd"])
def test_a_scan_in_its_file_is_the_scan(name: str, tmp_path: Path) -> None:
    """Patterns, positions and notes are those of a reading into memory; frames without a position are left out."""
    path = tmp_path / f"scan{name}"
    if name == "fold_slice":
        path = beamline.save_fold_slice(tmp_path)
    elif name == "ptyd":
        path = beamline.save_ptyd(tmp_path / "scan.ptyd")
    else:
        write_scan(sample_scan(), path)
    if name == "":
        with h5py.File(path / "diffraction.h5", "r+") as file:
            file["indexes"][2] = -1

    left = open_scan(path, probe=beamline.the_probe)

    check_same(left, read_scan(path, probe=beamline.the_probe))


@pytest.mark.parametrize("dtype", ["i2", ">i4", "u1", "i8", "f4"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_what_a_detector_got_wrong_is_mended_when_it_is_read(
    dtype: str, compression: str | None, tmp_path: Path
) -> None:
    """Masked values, spikes, dark frames and the corner come out as in memory, in any number format."""
    path = beamline.save_cxi(tmp_path / "scan.cxi")
    with h5py.File(path, "r+") as file:
        counts = np.minimum(np.fft.ifftshift(beamline.experiment().counts, axes=(1, 2)), 60).astype(dtype)
        counts[:, 3] = -1 if dtype.lstrip(">")[0] in "if" else np.iinfo(dtype).max
        counts[2, 5, 5], counts[4] = 120, 0
        mask = np.zeros(counts.shape[1:], dtype=np.uint32)
        mask[3] = 1
        del file[DATA]
        chunks = None if compression is None else (3, 5, counts.shape[2])
        file.create_dataset(DATA, data=counts, chunks=chunks, compression=compression)
        beamline.replace(file, "entry_1/instrument_1/detector_1/mask", mask)

    left, in_memory = open_scan(path), read_scan(path)

    check_same(left, in_memory)
    assert {"centre_evidence", "cleared_bad_pixels"} <= left.metadata.extra.keys()


def test_frames_of_several_files_are_one_stack(tmp_path: Path) -> None:
    """A stack that is put together from others, and one that a link leads to, are read through."""
    path = beamline.save_cxi(tmp_path / "scan.cxi")
    with h5py.File(path, "r+") as file:
        counts = np.asarray(file[DATA])
        layout, n_first = h5py.VirtualLayout(counts.shape, counts.dtype), len(np.array_split(counts, 3)[0])
        for number, some in enumerate(np.array_split(np.arange(len(counts)), 3)):
            with h5py.File(tmp_path / f"part{number}.h5", "w") as part:
                part.create_dataset("frames", data=counts[some], compression="gzip", chunks=(2, *counts.shape[1:]))
            source = h5py.VirtualSource(f"part{number}.h5", "frames", (len(some), *counts.shape[1:]))
            layout[some[0] : some[-1] + 1] = source
        del file[DATA]
        file.create_virtual_dataset(DATA, layout)
    check_same(open_scan(path), read_scan(path))
    with h5py.File(path, "r+") as file:
        del file[DATA]
        file[DATA] = h5py.ExternalLink("part0.h5", "frames")
        key = "entry_1/sample_1/geometry_1/translation"
        beamline.replace(file, key, np.asarray(file[key])[:n_first])

    found = open_scan(path, detector_check="off").patterns

    np.testing.assert_array_equal(found[:], counts[: len(found)])


def test_what_has_to_be_in_memory_says_so(tmp_path: Path) -> None:
    """Neither NumPy nor a frame that is not there gets all of them by accident."""
    write_scan(sample_scan(), tmp_path / "scan.h5")
    patterns = open_scan(tmp_path / "scan.h5").patterns

    with pytest.raises(TypeError, match=r"scan\.h5: patterns stay in their file: take some frames"):
        np.asarray(patterns)
    with pytest.raises(IndexError, match="a frame beyond"):
        patterns[len(patterns)]
    np.testing.assert_array_equal(patterns[-1], patterns[:][-1])


def test_files_without_random_access_are_refused_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NPZ file, and an HDF5 file that keeps too many frames together."""
    write_scan(sample_scan(), tmp_path / "scan.npz")
    with pytest.raises(ScanFileError, match=r"diff3d: expected frames that can be read in any order.*--memory-map"):
        open_scan(tmp_path / "scan.npz")
    write_scan(sample_scan(), tmp_path / "scan.h5")
    monkeypatch.setattr(frames, "_MOST_TOGETHER_BYTES", 100)
    with pytest.raises(ScanFileError, match=r"patterns: expected at most .* in a chunk.*--memory-map"):
        open_scan(tmp_path / "scan.h5")


def test_only_what_does_not_fit_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where patterns and their counts fit into memory, they are read; else the same scan stays in its file."""
    write_scan(sample_scan(), tmp_path / "scan.h5")
    monkeypatch.setattr(in_file, "_SMALL_BYTES", 0)
    size = read_scan(tmp_path / "scan.h5").patterns.nbytes
    monkeypatch.setattr(in_file, "available_memory", lambda: 4 * size)
    assert not open_scan(tmp_path / "scan.h5", always=False).memory_mapped
    monkeypatch.setattr(in_file, "available_memory", lambda: 4 * size - 1)

    check_same(open_scan(tmp_path / "scan.h5", always=False), read_scan(tmp_path / "scan.h5"))


def test_stacks_that_continue_each_other_are_one() -> None:
    """Frames of any numbers come from the part that has them."""
    whole = np.random.default_rng(0).integers(0, 9, (10, 2, 2))
    parts = [
        StoredPatterns(shape=part.shape, dtype=part.dtype, source="a", read=part.__getitem__)
        for part in np.split(whole, [3, 4])
    ]

    found = joined(parts)

    for chosen in (slice(None), slice(2, 5), np.array([9, 0, 3, 3]), np.array([], dtype=int)):
        np.testing.assert_array_equal(found[chosen], whole[chosen])
