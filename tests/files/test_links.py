"""Data in other files: followed within the folder, refused by name anywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from beamline_samples import DETECTOR, N_PATTERNS, N, save_cxi
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan
from ptycho_adapters.files.hdf5.elsewhere import links_followed_anywhere
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

DATA = f"{DETECTOR}/data"


def _moved(path: Path, target: Path) -> np.ndarray:
    """Put the patterns into a file of their own."""
    target.parent.mkdir(exist_ok=True)
    with h5py.File(path, "r+") as file, h5py.File(target, "w") as other:
        counts = np.asarray(file[DATA])
        other.create_dataset("raw/frames", data=counts, chunks=(2, N, N), compression="gzip")
        del file[DATA]
    return counts


def _link(path: Path, name: str, inside: str = "/raw/frames") -> None:
    with h5py.File(path, "r+") as file:
        file[DATA] = h5py.ExternalLink(name, inside)


@pytest.mark.parametrize("folder", [".", "data"])
def test_a_link_within_the_folder_is_followed(folder: str, tmp_path: Path) -> None:
    """Beside the file or below, in memory and in a map, wherever the process was started."""
    path = save_cxi(tmp_path / "master.h5")
    counts = _moved(path, tmp_path / folder / "frames.h5")
    _link(path, f"{folder}/frames.h5")

    np.testing.assert_array_equal(read_scan(path).patterns, counts)
    np.testing.assert_array_equal(read_scan(path, memory_map=tmp_path / "maps").patterns, counts)


def test_a_link_out_of_the_folder_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    """Upwards, absolute, and by a link of the file system; each named with its file and the flag."""
    (tmp_path / "run").mkdir()
    path = save_cxi(tmp_path / "run" / "master.h5")
    counts = _moved(path, tmp_path / "frames.h5")
    (tmp_path / "run" / "alias.h5").symlink_to(tmp_path / "frames.h5")
    for name in ("../frames.h5", str(tmp_path / "frames.h5"), "alias.h5"):
        _link(path, name)
        with pytest.raises(ScanFileError, match=r"found a link to the file .*not in its folder; .*--follow-links"):
            read_scan(path)
        with links_followed_anywhere():
            np.testing.assert_array_equal(read_scan(path).patterns, counts)
        with h5py.File(path, "r+") as file:
            del file[DATA]


def test_links_in_a_circle_through_files_lead_nowhere(tmp_path: Path) -> None:
    """Two files that point at each other are no reason to hang."""
    path = save_cxi(tmp_path / "master.h5")
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        del file[DATA]
        file[DATA] = h5py.ExternalLink("other.h5", "/back")
        other["back"] = h5py.ExternalLink("master.h5", f"/{DATA}")

    with pytest.raises(ScanFileError, match="links that lead nowhere"):
        read_scan(path)


def _virtual(path: Path, name: str, inside: str, shape: tuple[int, ...]) -> None:
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout(shape=(N_PATTERNS, N, N), dtype="u2")
        layout[:] = h5py.VirtualSource(name, inside, shape=shape)
        file.create_virtual_dataset(DATA, layout)


def test_a_virtual_dataset_within_the_folder_is_read(tmp_path: Path) -> None:
    """Made of a dataset beside it, or in the same file."""
    path = save_cxi(tmp_path / "master.h5")
    counts = _moved(path, tmp_path / "frames.h5")
    _virtual(path, "frames.h5", "raw/frames", counts.shape)
    np.testing.assert_array_equal(read_scan(path).patterns, counts)

    with h5py.File(path, "r+") as file:
        del file[DATA]
        file["own"] = counts
    _virtual(path, ".", "own", counts.shape)
    np.testing.assert_array_equal(read_scan(path).patterns, counts)


@pytest.mark.parametrize(
    ("name", "inside", "words"),
    [
        ("missing.h5", "raw/frames", "which is not there"),
        ("/etc/hostname", "raw/frames", "which is not in its folder"),
        ("frames.h5", "raw/nothing", "expected data in frames.h5: raw/nothing, found nothing"),
    ],
)
def test_a_virtual_dataset_of_something_else_is_refused(name: str, inside: str, words: str, tmp_path: Path) -> None:
    """HDF5 itself would give zeros for what is not there."""
    path = save_cxi(tmp_path / "master.h5")
    _virtual(path, name, inside, _moved(path, tmp_path / "frames.h5").shape)

    with pytest.raises(ScanFileError, match=words):
        read_scan(path)


def test_prepare_joins_the_files_of_an_eiger_master(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames behind links, one after the other by their numbers; the flag lets them lie elsewhere."""
    frames = np.random.default_rng(0).poisson(3.0, (7, 40, 36)).astype(np.uint32)
    (tmp_path / "run").mkdir()
    with h5py.File(tmp_path / "run" / "x_master.h5", "w") as master:
        for number, some in enumerate((frames[:3], frames[3:6], frames[6:]), 1):
            name = f"x_data_{number:06d}.h5"
            with h5py.File(tmp_path / name, "w") as file:
                file.create_dataset("entry/data/data", data=some, chunks=(1, 40, 36), compression="gzip")
            master[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(f"../{name}", "/entry/data/data")
    np.savetxt(tmp_path / "xy.txt", np.random.default_rng(1).uniform(0, 40, (7, 2)))
    line = ["prepare", str(tmp_path / "run" / "x_master.h5"), str(tmp_path / "out.npz"), "--size", "32", "--quiet"]
    line += ["--positions", str(tmp_path / "xy.txt"), "--columns", "0,1", "--unit", "px"]
    line += ["--centre-y", "20", "--centre-x", "18"]

    assert main(line) == 2
    capsys.readouterr()
    assert main([*line, "--follow-links"]) == 0
    with np.load(tmp_path / "out.npz") as made:
        np.testing.assert_array_equal(made["diff3d"], frames[:, 4:36, 2:34])
