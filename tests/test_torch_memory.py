"""Memory of the torch backend: measured on one group, and refused before it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from cli_samples import tiny_scan as scan_file
from ptycho_adapters import legacy
from ptycho_adapters.cli import main
from ptycho_adapters.torch_backend import reconstruct, save_archive, train
from ptycho_adapters.torch_backend.groups import training_groups
from ptycho_adapters.torch_backend.memory import kept_for_gradient
from ptycho_adapters.torch_backend.trainer import build_module
from ptycho_core.config import TorchInferenceConfig
from ptycho_core.memory import MemoryShortageError
from torch_sample import payload_for, quick_training, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.torch_backend.module import PtychoModule

FREE = "ptycho_adapters.torch_backend.memory.available_memory"
# 36 patterns of 64 px: three float32 copies while they are prepared.
PREPARED = 3 * 36 * 64 * 64 * 4


def module_and_groups(folder: Path, **overrides: object) -> tuple[PtychoModule, torch.Tensor]:
    payload = payload_for(folder, {"probe_autofocus": False, **overrides})
    groups = training_groups(payload, tiny_scan(), None)
    return build_module(payload, tiny_scan(), None, groups), torch.tensor(groups.train, dtype=torch.int64)


@pytest.mark.parametrize("architecture", ["unet", "unrolled"])
def test_what_is_kept_grows_with_the_groups(tmp_path: Path, architecture: str) -> None:
    """Four groups keep nearly four times as much as one for the gradient, and far more than their patterns."""
    module, groups = module_and_groups(tmp_path, architecture=architecture)

    one, four = kept_for_gradient(module, groups[:1]), kept_for_gradient(module, groups[:4])

    assert 3.5 * one < four < 4.05 * one
    assert one > 4 * 64 * 64 * 8 * 4


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    """Neither weights nor the random state are touched, and no gradient is left."""
    module, groups = module_and_groups(tmp_path)
    before, state = [p.detach().clone() for p in module.parameters()], torch.get_rng_state()

    kept_for_gradient(module, groups[:1])

    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is needed and which batch size would fit; that one trains."""
    module, groups = module_and_groups(tmp_path, n_groups=16, batch_size=16, neighbor_count=6)
    kept = kept_for_gradient(module, groups[:1])
    weights = sum(parameter.numel() for parameter in module.parameters()) * 20
    monkeypatch.setattr(FREE, lambda: max(PREPARED, round(1.35 * 4.5 * kept) + weights))

    with pytest.raises(MemoryShortageError, match="a batch kept for its gradient") as caught:
        train(payload_for(tmp_path, {"n_groups": 16, "batch_size": 16, "probe_autofocus": False}), tiny_scan())

    assert caught.value.problems[0].fix.startswith("--batch-size 4 ")
    assert train(
        payload_for(tmp_path, {"n_groups": 16, "batch_size": 4, "probe_autofocus": False}), tiny_scan()
    ).history


def test_patterns_that_do_not_fit_are_refused_before_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and reconstruction both look at the patterns first."""
    model = quick_training(tmp_path)
    monkeypatch.setattr(FREE, lambda: PREPARED - 1)

    with pytest.raises(MemoryShortageError, match="training does not fit"):
        train(payload_for(tmp_path, {"probe_autofocus": False}), tiny_scan())
    with pytest.raises(MemoryShortageError, match="reconstruction does not fit"):
        reconstruct(model, tiny_scan())


def test_a_reconstruction_that_does_not_fit_names_a_smaller_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fields of all patterns are too much; with the number of patterns that is proposed it works."""
    model = quick_training(tmp_path)
    scan = tiny_scan()
    monkeypatch.setattr(FREE, lambda: 5_000_000)

    with pytest.raises(MemoryShortageError, match="fields of the patterns") as caught:
        reconstruct(model, scan)

    flag, number = caught.value.problems[0].fix.split(" ")[:2]
    assert flag == "--n-subsample"
    result = reconstruct(model, scan, inference_config=TorchInferenceConfig(n_subsample=int(number)))
    assert len(result.pattern_indices) == int(number)


@pytest.mark.parametrize("command", ["train", "infer"])
def test_commands_end_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A shortage is the user's to mend: code 2, the amounts, and no result."""
    scan, out = scan_file(tmp_path), tmp_path / "out"
    save_archive(quick_training(tmp_path / "m"), tmp_path / "model")
    monkeypatch.setattr(FREE, lambda: 1000)
    line = {
        "train": f"train --train-data-file {scan} --output-dir {out} --n-groups 8 --accelerator cpu "
        "--no-probe-autofocus --gridsize 1",
        "infer": f"infer --model-path {tmp_path / 'model'} --test-data {scan} --output-dir {out} --accelerator cpu",
    }

    with legacy.legacy_scope():
        code = main(line[command].split())

    message = capsys.readouterr().err
    assert code == 2
    assert "at most 1 kB, which is free" in message
    assert "patterns as counts" in message
    assert not list(out.rglob("*.h5*"))
