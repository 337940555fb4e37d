"""Losses by step: what is kept of them, at what price, and what becomes of them in archives and pictures."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from ptycho_adapters.plotting.curves import draw_losses, training_curves
from ptycho_adapters.torch_backend import EpochLosses, StepLoss, load_archive, save_archive
from ptycho_adapters.torch_backend.training.callbacks import LossHistory
from ptycho_adapters.torch_backend.training.step_losses import StepLosses
from ptycho_core.errors import ArchiveError
from torch_sample import quick_training

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.torch_backend import TrainedModel


THREE = {"epochs": 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return quick_training(tmp_path_factory.mktemp("model"), THREE)


@given(
    losses=st.lists(st.floats(0.125, 8.0, width=32), max_size=200),
    fetched_every=st.integers(1, 60),
    most=st.sampled_from([2, 4, 16]),
)
def test_means_are_those_of_equal_windows(losses: list[float], fetched_every: int, most: int) -> None:
    """Few rows, each the mean of as many losses as every other but the last, whenever they were fetched."""
    kept = StepLosses(most=most)
    for number, loss in enumerate(losses, start=1):
        kept.add(number, torch.tensor(loss))
        if number % fetched_every == 0:
            kept.fetch()
    kept.fetch()

    width = kept.rows[0][2] if kept.rows else 1
    windows = [losses[start : start + width] for start in range(0, len(losses), width)]
    assert len(windows) <= most
    assert [row.train for row in kept.means()] == pytest.approx([float(np.mean(window)) for window in windows])
    assert [row.step for row in kept.means()] == [min((k + 1) * width, len(losses)) for k in range(len(windows))]


def test_no_step_waits_for_the_device() -> None:
    """Taking down a loss reads no value: tensors without any do."""
    history = LossHistory()
    for step in range(1, 3000):
        history.steps.add(step, torch.zeros((), device="meta"))

    with pytest.raises((RuntimeError, NotImplementedError)):
        history.steps.fetch()


def test_a_training_keeps_the_loss_of_every_step(model: TrainedModel) -> None:
    """Three batches per epoch, whose mean by size is the loss of the epoch."""
    sizes = np.array([2, 2, 1])  # 5 groups in batches of 2
    by_epoch = np.array([row.train for row in model.step_losses]).reshape(3, 3)

    assert [row.step for row in model.step_losses] == list(range(1, 10))
    assert (by_epoch @ sizes / 5).tolist() == pytest.approx([row.train for row in model.history], rel=1e-5)


def test_accumulated_batches_share_their_step(tmp_path: Path) -> None:
    """The number of optimiser steps at the end of each batch is what a loss stands at, and its size is that of one."""
    plain, together = quick_training(tmp_path, THREE), quick_training(tmp_path, THREE, accum_steps=2)

    assert [row.step for row in together.step_losses] == [0, 1, 2, 2, 3, 4, 4, 5, 6]
    assert together.step_losses[0].train == pytest.approx(plain.step_losses[0].train, rel=1e-5)


def test_a_resumed_training_knows_the_steps_before(tmp_path: Path) -> None:
    """Its losses begin where the whole run began; a checkpoint that has none is taken up all the same."""
    history = LossHistory()
    history.rows, history.steps = [(0, 3, {"poisson_train_loss": 2.0})], StepLosses([(3, 2.5, 1)])
    state = history.state_dict()

    again, bare = LossHistory(), LossHistory()
    again.load_state_dict(state)
    bare.load_state_dict({"rows": state["rows"]})

    assert again.steps.means() == (StepLoss(step=3, train=2.5),)
    assert (bare.rows, bare.steps.means()) == (history.rows, ())


def test_the_archive_keeps_them(model: TrainedModel, tmp_path: Path) -> None:
    """They come back as they were; an archive that never had them is read without."""
    path = save_archive(model, tmp_path)
    assert load_archive(path).step_losses == model.step_losses

    for steps, found in ((None, ()), ([[1, 2.0]], (StepLoss(step=1, train=2.0),))):
        _with_steps(path, steps)
        assert load_archive(path).step_losses == found


@pytest.mark.parametrize("wrong", [5, [[1]], [[1.5, 2.0]], [["1", 2.0]], [{"step": 1}]])
def test_wrong_losses_in_an_archive_are_named(model: TrainedModel, tmp_path: Path, wrong: object) -> None:
    """The member, what belongs there and what is there."""
    path = save_archive(model, tmp_path)
    _with_steps(path, wrong)

    with pytest.raises(ArchiveError, match=r"manifest\.json\.step_losses: expected pairs of step and loss"):
        load_archive(path)


def _with_steps(path: Path, steps: object) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    manifest.pop("step_losses", None)
    manifest |= {} if steps is None else {"step_losses": steps}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"manifest.json": json.dumps(manifest).encode()}).items():
            archive.writestr(name, content)


def test_curves_are_over_steps_with_a_mark_per_epoch(model: TrainedModel) -> None:
    """One epoch is a line of its steps, with one mark for what was held out."""
    (first, *_) = model.history
    curves = training_curves(model.history[:1], model.step_losses[:3])

    assert curves.over == "step"
    assert {name: [list(part) for part in parts] for name, parts in curves.curves.items()} == {
        "training": [[1, 2, 3], [row.train for row in model.step_losses[:3]]],
        "held out": [[3], [first.validation]],
    }
    axes = Figure().subplots()
    draw_losses(axes, curves, unit="loss")
    assert axes.get_xlabel() == "step"
    training, held_out = axes.lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
    assert (held_out.get_marker(), list(map(float, np.asarray(held_out.get_xdata())))) == ("o", [3.0])


def test_without_steps_curves_are_over_epochs() -> None:
    """As far as an older archive can tell; epochs without a held-out loss have no mark."""
    rows = (
        EpochLosses(epoch=0, train=3.0, validation=None, steps=4),
        EpochLosses(epoch=1, train=2.0, validation=2.5, steps=8),
    )

    curves = training_curves(rows, ())

    assert (curves.over, curves.curves) == ("epoch", {"training": ([1, 2], [3.0, 2.0]), "held out": ([2], [2.5])})
    assert training_curves([attrs.evolve(row, validation=None) for row in rows], ()).curves.keys() == {"training"}
