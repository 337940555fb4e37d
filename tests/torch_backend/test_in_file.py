"""Training and reconstruction on patterns that stay in their HDF5 file: the same numbers, read ahead."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

import torch_sample
from ptycho_adapters.cli import main
from ptycho_adapters.command_line import scan_input
from ptycho_adapters.files import in_file, open_scan, read_scan, write_scan
from ptycho_adapters.torch_backend import reconstruct, train
from ptycho_adapters.torch_backend.data.ahead import read_ahead
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.inference import whole_scan
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.measurement.stored import stored

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.scan import Scan


@cache
def known_scan() -> Scan:
    """The tiny scan with the lengths that an HDF5 file wants, and a bad column."""
    bad = np.zeros((64, 64), dtype=bool)
    bad[:, 5] = True
    lengths = ScanMetadata(pixel_size_m=1e-8, wavelength_m=1e-10, distance_m=1.0)
    return attrs.evolve(torch_sample.tiny_scan(), bad_pixels=bad, metadata=lengths)


def both(folder: Path) -> tuple[Scan, Scan]:
    write_scan(known_scan(), folder / "scan.h5")
    return read_scan(folder / "scan.h5"), open_scan(folder / "scan.h5")


def test_gathered_patterns_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """Counts, places, flux and batches are those of a scan in memory; nothing is kept."""
    resident, streamed = map(ResidentScan, both(tmp_path))
    indices = torch.tensor([[3, 0, 35], [3, 17, 3]])

    one, other = resident.gather(indices), streamed.gather(indices)

    assert torch.equal(one.counts, other.counts)
    assert torch.equal(one.starts, other.starts)
    assert resident.flux == streamed.flux
    assert streamed.counts.numel() == 0
    every = torch.arange(36)
    for (at, first), (place, second) in zip(resident.gathered(every, 5), streamed.gathered(every, 5), strict=True):
        assert torch.equal(at, place)
        assert torch.equal(first.counts, second.counts)


def test_small_batches_are_read_several_at_a_time(tmp_path: Path) -> None:
    """What a read costs beside its bytes is shared: 36 small frames come at once, also where batches hold five."""
    asked: list[int] = []
    scan = both(tmp_path)[1]
    patterns = stored(scan.patterns)
    assert patterns is not None

    def counted(frames: AnyArray, numbers: npt.NDArray[np.int64]) -> AnyArray:
        asked.append(len(numbers))
        return frames

    watched = patterns.changed(counted)
    streamed = ResidentScan(attrs.evolve(scan, patterns=watched.as_array()))
    asked.clear()

    batches = [len(batch) for batch, _ in streamed.gathered(torch.arange(36), 5)]

    assert asked == [36]
    assert batches == [5] * 7 + [1]


def test_a_scan_in_its_file_trains_and_reconstructs_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, probe, object and figures are those of a scan in memory, after probe rounds and a finish, too."""
    payload = torch_sample.payload_for(tmp_path, {"epochs": 1})
    in_memory, in_file = both(tmp_path)

    one, other = train(payload, in_memory), train(payload, in_file)

    assert one.history == other.history
    np.testing.assert_array_equal(one.probe, other.probe)
    settings = TorchInferenceConfig(probe_rounds=1, finish=1, patch_weighting="uniform")
    execution = PyTorchExecutionConfig(accelerator="cpu")
    kept = reconstruct(one, in_memory, execution_config=execution, inference_config=settings)
    monkeypatch.setattr(whole_scan, "_KEPT_OF_A_FILE_BYTES", 0)
    read = reconstruct(one, in_file, execution_config=execution, inference_config=settings)
    np.testing.assert_array_equal(kept.object, read.object)
    np.testing.assert_array_equal(kept.positions_px, read.positions_px)
    assert kept.metrics == read.metrics


def test_two_files_train_together_as_two_scans_in_memory(tmp_path: Path) -> None:
    """Patterns of several files are read ahead, each from its own."""
    payload = torch_sample.payload_for(tmp_path, {"epochs": 1})
    in_memory, in_file = both(tmp_path)

    one, other = train(payload, [in_memory, in_memory]), train(payload, [in_file, in_file])

    assert one.history == other.history


def test_commands_read_patterns_where_they_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a flag, what does not fit stays in its file, which is said; two places and one-way files are refused."""
    write_scan(known_scan(), tmp_path / "scan.h5")
    quick = ["--probe-rounds", "0", "--no-beam-search", "--background-counts", "0", "--accelerator", "cpu"]
    line = ["infer", "--test-data", str(tmp_path / "scan.h5"), "--output-dir", str(tmp_path / "out"), *quick]
    monkeypatch.setattr(in_file, "_SMALL_BYTES", 0)
    monkeypatch.setattr(in_file, "available_memory", lambda: 1)

    monkeypatch.setattr(scan_input, "_LARGE_BYTES", 0)

    assert main(line) == 0

    said = capsys.readouterr().err
    assert said.index(f"reading {tmp_path / 'scan.h5'}, ") < said.index("295 kB of patterns stay in the file")
    assert main([*line, "--patterns-in", "file", "--memory-map", str(tmp_path)]) == 2
    write_scan(known_scan(), tmp_path / "scan.npz")
    one_way = ["infer", "--test-data", str(tmp_path / "scan.npz"), "--output-dir", str(tmp_path / "out"), *quick]
    assert main([*one_way, "--patterns-in", "file"]) == 2
    assert "--memory-map FOLDER" in capsys.readouterr().err


def test_what_reading_raises_comes_in_order_and_stops_the_thread() -> None:
    """Pieces before a damaged one are given; a loop that is left early leaves nothing behind."""
    asked: list[int] = []

    def read(number: int) -> int:
        asked.append(number)
        if number == 3:
            raise OSError("damaged")
        return number**2

    pieces = read_ahead(read, range(10))

    assert [next(pieces) for _ in range(3)] == [(0, 0), (1, 1), (2, 4)]
    with pytest.raises(OSError, match="damaged"):
        next(pieces)
    assert max(asked) <= 3 + 3
    early = read_ahead(read, range(3))
    assert next(early) == (0, 0)
    del early
    assert not [each for each in threading.enumerate() if each.name.startswith("ptycho-read-ahead")]
