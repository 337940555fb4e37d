"""A training never returns what is worse than its start, by what was held out."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from ptycho_adapters.common.groups import training_groups
from ptycho_adapters.common.model import Selection
from ptycho_adapters.common.monitoring import explains_better
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_adapters.torch_backend.generators.unet import ProbeConditionedUNet
from ptycho_adapters.torch_backend.training.held_out import Start, look_at_start
from ptycho_adapters.torch_backend.training.trainer import train
from ptycho_core.errors import NotFiniteError
from torch_sample import FakeClock, module_of, payload_for, quick_training, tiny_scan, weights

if TYPE_CHECKING:
    from pathlib import Path

UNTOUCHED: dict[str, object] = {"probe_autofocus": False, "probe_rounds": 0}


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_training_that_loses_gives_back_its_start(tmp_path: Path, checkpoints: bool) -> None:
    """After steps far too large the weights and the probe are those before the first one, and the model says so."""
    settings = {**UNTOUCHED, "learning_rate": 30.0, "optimizer": "sgd", "momentum": 0.0, "epochs": 2}
    start = module_of(payload_for(tmp_path, settings))

    model = quick_training(tmp_path, settings, enable_checkpointing=checkpoints)

    expected = torch.cat([each.detach().reshape(-1) for each in start.generator.parameters()]).numpy()
    np.testing.assert_array_equal(weights(model), expected)
    np.testing.assert_allclose(model.probe, start.probes[0]().detach().numpy(), rtol=1e-6)
    assert model.selection is not None
    assert model.selection.epoch is None
    assert not model.selection.end_loss < model.selection.start_loss
    assert str(model.selection).startswith("the start, whose held-out loss of ")


def test_a_training_that_wins_keeps_its_best_epoch(tmp_path: Path) -> None:
    """The loss of the start, of the epoch and which one it was are told."""
    model = quick_training(tmp_path, {**UNTOUCHED, "epochs": 3}, enable_checkpointing=True)

    assert model.selection is not None
    assert model.selection.epoch is not None
    losses = [row.validation for row in model.history if row.validation is not None]
    assert model.selection.end_loss == min(losses) == losses[model.selection.epoch]
    assert model.selection.end_loss < model.selection.start_loss
    assert str(model.selection).startswith(f"epoch {model.selection.epoch + 1}, whose held-out loss of ")


def test_the_start_is_judged_as_the_epochs_are(tmp_path: Path) -> None:
    """Where nothing is learned, the epoch's held-out loss is that of the start."""
    settings = {**UNTOUCHED, "learning_rate": 1e-12, "probe_trainable": False, "batch_size": 1}

    model = quick_training(tmp_path, {**settings, "validation_fraction": 0.3})

    assert model.selection is not None
    assert model.history[0].validation == pytest.approx(model.selection.start_loss, rel=1e-5)


def test_a_training_that_is_taken_up_is_held_against_the_same_start(tmp_path: Path) -> None:
    """Not against the checkpoint."""
    first = quick_training(tmp_path, {**UNTOUCHED, "epochs": 1}, enable_checkpointing=True)

    rest = quick_training(tmp_path, {**UNTOUCHED, "epochs": 2}, resume=tmp_path / "checkpoints" / "last.ckpt")

    assert first.selection is not None
    assert rest.selection is not None
    assert rest.selection.start_loss == first.selection.start_loss


def test_without_held_out_patterns_the_end_is_kept(tmp_path: Path) -> None:
    """There is nothing to choose by, and none is said to have been."""
    assert quick_training(tmp_path, {"validation_fraction": 0.0}).selection is None


@pytest.mark.parametrize(("end", "kept"), [(0.9, False), (1.0, True), (1.1, True), (float("nan"), True), (None, False)])
def test_the_lower_loss_wins_and_the_start_among_equals(end: float | None, kept: bool) -> None:
    """A loss that is no number wins against none; one that was not measured takes nothing back."""
    start = Start(loss=1.0, groups=(), seconds=0.0, state={})

    assert start.is_kept(end) is kept
    assert not attrs.evolve(start, loss=None).is_kept(end)


class _NoNumber(Callback):
    """Makes the network's weights NaN, from an epoch on."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch >= self._epoch:
            with torch.no_grad():
                for each in pl_module.parameters():
                    each.fill_(math.nan)


def test_the_best_epoch_before_a_loss_that_is_no_number_is_kept(tmp_path: Path) -> None:
    """Where a checkpoint holds it; without checkpoints the start, and it is said that the end has no number."""
    settings = {**UNTOUCHED, "epochs": 4}
    kept, lost = (
        train(
            payload_for(tmp_path / str(checkpoints), settings, enable_checkpointing=checkpoints),
            tiny_scan(),
            callbacks=[_NoNumber(2)],
        )
        for checkpoints in (True, False)
    )

    assert len(kept.history) == 3
    assert np.isfinite(weights(kept)).all()
    losses = [row.validation for row in kept.history[:2] if row.validation is not None]
    assert kept.selection is not None
    assert kept.selection.epoch == np.argmin(losses)
    assert kept.selection.end_loss == min(losses)
    assert np.isfinite(weights(lost)).all()
    told = str(lost.selection)
    assert re.fullmatch(r"the start, whose held-out loss of [0-9.]+ is finite; that of the end is not", told)


def test_a_training_without_a_finite_loss_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is named, and what it can come from."""

    def no_numbers(_: ProbeConditionedUNet, amplitude: torch.Tensor, probes: torch.Tensor) -> torch.Tensor:
        return amplitude * math.nan * probes[:, :, 0]

    monkeypatch.setattr(ProbeConditionedUNet, "forward", no_numbers)

    with pytest.raises(NotFiniteError, match=r"held-out loss: expected a finite one.*found nan.*network or data"):
        quick_training(tmp_path, UNTOUCHED)


@pytest.mark.parametrize(("one", "other", "better"), [(1.0, 2.0, True), (1.0, 1.0, False), (2.0, 1.0, False)])
def test_a_loss_that_is_no_number_is_worse_than_any(one: float, other: float, better: bool) -> None:
    """Whether low or high is good."""
    assert explains_better(one, other) is better
    assert explains_better(other, one, sign=-1.0) is better
    assert explains_better(one, math.nan)
    assert explains_better(one, math.nan, sign=-1.0)
    assert not explains_better(math.nan, one)
    assert not explains_better(math.nan, math.nan)


def test_what_is_kept_is_told_without_comparing_with_no_number() -> None:
    """A start that has no number is said to have none."""
    told = str(Selection(start_loss=math.nan, end_loss=5.0, epoch=0))

    assert told == "epoch 1, whose held-out loss of 5 is finite; that of the start is not"


@pytest.mark.parametrize(("look_s", "looked_at"), [(0.0, 18), (0.1, 5), (100.0, 1)])
def test_little_time_is_enough_for_some_of_the_groups(tmp_path: Path, look_s: float, looked_at: int) -> None:
    """A look takes a small share of the limit, or one group; the loss is that of the groups it says."""
    settings = {**UNTOUCHED, "validation_fraction": 0.5, "n_groups": 36, "neighbor_count": 8}
    payload, scan = payload_for(tmp_path, settings), tiny_scan()
    drawn = training_groups(payload, scan)

    start = look_at_start(module_of(payload), payload, [drawn], TimeLimit("00:00:00:05", FakeClock(look_s=look_s)))

    (groups,) = start.groups
    assert len(groups) == looked_at
    np.testing.assert_array_equal(groups, drawn.validation[:looked_at])
    fewer = attrs.evolve(drawn, validation=groups)
    assert start.loss == pytest.approx(look_at_start(module_of(payload), payload, [fewer], TimeLimit()).loss, rel=1e-5)
