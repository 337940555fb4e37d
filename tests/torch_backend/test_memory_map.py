"""Training and reconstruction on a memory-mapped scan: the same numbers, without the stack in memory."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from cli_samples import tiny_scan as scan_file
from ptycho_adapters.cli import main
from ptycho_adapters.common.groups import training_groups, training_set
from ptycho_adapters.files import read_product, read_scan, write_scan
from ptycho_adapters.torch_backend import reconstruct, train
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.inference.memory import check_residency
from ptycho_adapters.torch_backend.training.memory import check_patterns
from ptycho_core.config import PyTorchExecutionConfig
from ptycho_core.memory import MemoryShortageError
from torch_sample import payload_for, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

FREE = "ptycho_adapters.torch_backend.memory.available_memory"
AT_ONCE = "ptycho_adapters.common.memory._MAPPED_AT_ONCE"


@cache
def masked_scan() -> Scan:
    """The tiny scan with a bad column, so that masked counts are told from the others."""
    bad = np.zeros((64, 64), dtype=bool)
    bad[:, 5] = True
    return attrs.evolve(tiny_scan(), bad_pixels=bad)


def mapped(scan: Scan, folder: Path) -> Scan:
    write_scan(scan, folder / "scan.npz")
    return read_scan(folder / "scan.npz", memory_map=folder / "maps")


def test_gathered_patterns_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """Counts, positions and flux of any groups are those of a scan that is kept in memory, of which no copy is made."""
    resident = ResidentScan(masked_scan())
    streamed = ResidentScan(mapped(masked_scan(), tmp_path))
    indices = torch.tensor([[3, 0, 35], [3, 17, 3]])

    one, other = resident.gather(indices), streamed.gather(indices)

    assert torch.equal(one.counts, other.counts)
    assert one.counts.shape == (2, 3, 64, 64)
    assert torch.equal(one.fractions_px, other.fractions_px)
    assert torch.equal(one.starts, other.starts)
    assert resident.flux == streamed.flux
    assert (resident.size, resident.device) == (streamed.size, streamed.device)
    assert streamed.counts.numel() == 0


def test_a_mapped_scan_trains_alike(tmp_path: Path) -> None:
    """Losses, probe and weights come out the same as from a scan in memory, and so does a reconstruction."""
    payload = payload_for(tmp_path, {"epochs": 2})
    scan = mapped(masked_scan(), tmp_path)

    one, other = train(payload, masked_scan()), train(payload, scan)

    assert one.history == other.history
    np.testing.assert_array_equal(one.probe, other.probe)
    execution = PyTorchExecutionConfig(accelerator="cpu")
    objects = [reconstruct(one, each, execution_config=execution).object for each in (masked_scan(), scan)]
    np.testing.assert_array_equal(objects[0], objects[1])


def test_a_mapped_stack_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stack does not fit, the map is proposed; with it, only some patterns count."""
    payload = payload_for(tmp_path)
    scan = mapped(tiny_scan(), tmp_path)
    monkeypatch.setattr(AT_ONCE, 4)
    size = 64 * 64 * 4
    monkeypatch.setattr(FREE, lambda: 3 * 4 * size)

    with pytest.raises(MemoryShortageError, match=r"--patterns-in file, or --memory-map FOLDER .*\(needs 197 kB\)"):
        check_patterns(payload, training_set(payload, [tiny_scan()]))
    with pytest.raises(MemoryShortageError, match=r"--patterns-in file, or --memory-map FOLDER .*\(needs 197 kB\)"):
        check_residency(tiny_scan(), 36, payload.execution_config)
    check_patterns(payload, training_set(payload, [scan]))
    check_residency(scan, 36, payload.execution_config)
    monkeypatch.setattr(FREE, lambda: 3 * 4 * size - 1)
    with pytest.raises(MemoryShortageError) as caught:
        check_residency(scan, 36, payload.execution_config)
    assert "--memory-map" not in caught.value.problems[0].fix


def test_commands_map_their_scans(tmp_path: Path) -> None:
    """Both commands leave one file of patterns for each scan in the folder, and reconstruct as without it."""
    scan, folder = scan_file(tmp_path), tmp_path / "maps"
    common = ["--accelerator", "cpu", "--quiet"]
    flags = ["--gridsize", "1", "--n-groups", "4", "--max-epochs", "1", "--architecture", "unet"]
    trained = ["train", "--train-data-file", str(scan), "--output-dir", str(tmp_path / "model"), *flags, *common]
    assert main([*trained, "--memory-map", str(folder)]) == 0
    infer = ["infer", "--model-path", str(tmp_path / "model"), "--test-data", str(scan), *common]

    assert main([*infer, "--output-dir", str(tmp_path / "one"), "--memory-map", str(folder)]) == 0
    assert main([*infer, "--output-dir", str(tmp_path / "other")]) == 0

    assert len(list(folder.iterdir())) == 1
    one, other = (read_product(tmp_path / name / "object.h5") for name in ("one", "other"))
    np.testing.assert_array_equal(one.object, other.object)


def test_groups_are_drawn_without_touching_patterns(tmp_path: Path) -> None:
    """The groups of a held-out region are those of a scan in memory."""
    payload = payload_for(tmp_path)

    groups = training_groups(payload, mapped(tiny_scan(), tmp_path))

    expected = training_groups(payload, tiny_scan())
    np.testing.assert_array_equal(groups.train, expected.train)
    np.testing.assert_array_equal(groups.validation, expected.validation)
