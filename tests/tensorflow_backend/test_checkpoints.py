"""How a training on TensorFlow stops and goes on: its checkpoints, and what it is taken up from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ptycho_adapters import tensorflow_backend
from ptycho_adapters.common.checkpoint_files import BEFORE_LAST
from ptycho_adapters.tensorflow_backend.training.checkpoints import read_checkpoint
from ptycho_core.errors import ConfigError
from tensorflow_training import FakeClock, minute_payload, observed, small_scan

if TYPE_CHECKING:
    from pathlib import Path

LONG: dict[str, object] = {"epochs": 40, "scheduler": "CosineAnnealing", "lr_min_ratio": 0.01}


def checkpoints(folder: Path) -> list[str]:
    """All but the one before the last."""
    return sorted(file.name for file in (folder / "checkpoints").iterdir() if file.name != BEFORE_LAST)


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path, optimizer: str) -> None:
    """From a checkpoint half way, the rest of the run gives the whole run's result, bit for bit."""
    settings: dict[str, object] = {"epochs": 4, "n_groups": 4, "scheduler": "CosineAnnealing", "optimizer": optimizer}
    kept = {"enable_checkpointing": True, "checkpoint_save_top_k": -1}
    whole = tensorflow_backend.train(minute_payload(tmp_path, settings, **kept), small_scan())
    (half,) = (tmp_path / "checkpoints").glob("epoch=1-*")

    rest = tensorflow_backend.train(minute_payload(tmp_path / "rest", settings, resume=half), small_scan())

    assert [row.epoch for row in rest.history] == [0, 1, 2, 3]
    assert (rest.history, rest.step_losses, rest.selection) == (whole.history, whole.step_losses, whole.selection)
    assert len({row.train for row in rest.history}) == 4
    for name, value in whole.generator.weights.items():
        np.testing.assert_array_equal(rest.generator.weights[name], value)


@pytest.mark.usefixtures("in_graphs")
def test_a_run_in_graphs_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    """As without graphs, bit for bit: what is traced anew starts from what the checkpoint holds."""
    # Batches of one shape and nothing held out: each run traces one step and no more.
    settings: dict[str, object] = {
        "epochs": 2,
        "n_groups": 2,
        "gridsize": 1,
        "batch_size": 1,
        "validation_fraction": 0.0,
    }
    kept = {"enable_checkpointing": True, "checkpoint_save_top_k": -1}
    whole = tensorflow_backend.train(minute_payload(tmp_path, settings, **kept), small_scan())
    (half,) = (tmp_path / "checkpoints").glob("epoch=0-*")

    rest = tensorflow_backend.train(minute_payload(tmp_path / "rest", settings, resume=half), small_scan())

    assert [row.epoch for row in rest.history] == [0, 1]
    assert rest.history[1].train != rest.history[0].train
    assert (rest.history, rest.step_losses, rest.selection) == (whole.history, whole.step_losses, whole.selection)
    for name, value in whole.generator.weights.items():
        np.testing.assert_array_equal(rest.generator.weights[name], value)


def test_plateaus_and_patience_go_on(tmp_path: Path) -> None:
    """As if there had been no stop: a loss that does not fall lowers the rate, and ends the run, when it would have."""
    settings: dict[str, object] = {
        "epochs": 9,
        "scheduler": "ReduceLROnPlateau",
        "plateau_patience": 1,
        "plateau_factor": 0.5,
    }
    execution = {"enable_checkpointing": True, "checkpoint_save_top_k": -1, "early_stop_patience": 5}
    whole = observed(minute_payload(tmp_path, settings, **execution), loss=lambda _: 1.0)
    (third,) = (tmp_path / "checkpoints").glob("epoch=2-*")
    payload = minute_payload(tmp_path / "rest", settings, early_stop_patience=5, resume=third)

    rest = observed(payload, loss=lambda _: 1.0)

    assert len(whole.model.history) == 6
    assert rest.model.history == whole.model.history
    assert rest.learner.rates == whole.learner.rates[9:]
    assert len({*whole.learner.rates}) > 1


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    """There is nothing to wait for."""
    run = observed(minute_payload(tmp_path, {"epochs": 9}), loss=lambda steps: math.nan if steps > 3 else 1.0)

    assert len(run.model.history) == 2


def test_a_run_that_is_taken_up_has_its_limit_once_more(tmp_path: Path) -> None:
    """As many seconds as it is given now, however many there were before; its schedule is that of both together."""
    first = observed(
        minute_payload(tmp_path, LONG, max_time="00:00:00:01", enable_checkpointing=True),
        clock=FakeClock(step_s=1 / 16),
    )

    payload = minute_payload(tmp_path, LONG, max_time="00:00:00:01", resume=last(tmp_path))
    rest = observed(payload, clock=FakeClock(step_s=1 / 16))

    cosine = [0.5 * (1 + math.cos(math.pi * step / 32)) for step in range(16, 32)]
    assert len(first.learner.rates) == 16
    assert rest.learner.rates == pytest.approx([2e-3 * (0.01 + 0.99 * factor) for factor in cosine])
    assert rest.model.history[: len(first.model.history)] == first.model.history


def test_a_second_run_leaves_no_checkpoint_of_the_first(tmp_path: Path) -> None:
    """Whether it writes checkpoints or not; one that goes on from there may leave what it started from."""

    def done() -> int | None:
        return len(read_checkpoint(last(tmp_path)).memory.history) if last(tmp_path).exists() else None

    observed(minute_payload(tmp_path, {"epochs": 3}, enable_checkpointing=True))
    observed(minute_payload(tmp_path, {"epochs": 2}, enable_checkpointing=True))
    assert done() == 2
    observed(minute_payload(tmp_path, {"epochs": 3}, resume=last(tmp_path)))
    assert done() == 2
    observed(minute_payload(tmp_path, {"epochs": 1}))
    assert done() is None


@pytest.mark.parametrize(("epochs", "refused"), [(1, True), (2, False)])
def test_fewer_epochs_than_done_are_refused(tmp_path: Path, epochs: int, refused: bool) -> None:
    """The message has both numbers; as many as done leave everything as it was."""
    first = observed(minute_payload(tmp_path, {"epochs": 2}, enable_checkpointing=True))
    payload = minute_payload(tmp_path, {"epochs": epochs}, resume=last(tmp_path))

    if refused:
        with pytest.raises(ConfigError, match=r"epochs: expected at least the 2 that .*last\.ckpt has .*, found 1"):
            observed(payload)
    else:
        again = observed(payload)
        assert not again.learner.batches
        assert again.model.history == first.model.history
        for name, value in first.model.generator.weights.items():
            np.testing.assert_array_equal(again.model.generator.weights[name], value)


def test_a_run_that_is_taken_up_is_held_against_the_same_start(tmp_path: Path) -> None:
    """Not against the checkpoint."""
    first = observed(minute_payload(tmp_path, enable_checkpointing=True))
    rest = observed(minute_payload(tmp_path, {"epochs": 2}, resume=last(tmp_path)))

    assert first.model.selection is not None
    assert rest.model.selection is not None
    assert rest.model.selection.start_loss == first.model.selection.start_loss


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_best_epoch_is_kept_across_a_stop(tmp_path: Path, elsewhere: bool) -> None:
    """The first epoch was the best one: its weights are what the run that is taken up gives, in whatever folder."""
    settings: dict[str, object] = {"epochs": 2}
    first = observed(minute_payload(tmp_path, enable_checkpointing=True), loss=lambda steps: abs(steps - 3.0) + 1)
    folder = tmp_path / "rest" if elsewhere else tmp_path
    payload = minute_payload(folder, settings, enable_checkpointing=True, resume=last(tmp_path))

    rest = observed(payload, loss=lambda steps: abs(steps - 3.0) + 1)

    assert rest.model.selection is not None
    assert rest.model.selection.epoch == 0
    for name, value in first.model.generator.weights.items():
        np.testing.assert_array_equal(rest.model.generator.weights[name], value)
    assert len([name for name in checkpoints(tmp_path) if name.startswith("epoch=0-")]) == 1


def test_a_best_checkpoint_that_is_gone_is_missed(tmp_path: Path) -> None:
    """What the run would have kept is named."""
    observed(minute_payload(tmp_path, enable_checkpointing=True))
    (best,) = (tmp_path / "checkpoints").glob("epoch=0-*")
    best.unlink()

    with pytest.warns(UserWarning, match="epoch=0-poisson_val_loss=.*among the best of the run so far, is not there"):
        observed(minute_payload(tmp_path, {"epochs": 2}, resume=last(tmp_path)))


def test_a_training_that_wins_keeps_its_best_epoch(tmp_path: Path) -> None:
    """The weights after its last step, where checkpoints are written; else those of the end."""

    def loss(steps: int) -> float:
        return abs(steps - 6.0) + 1

    runs = [
        observed(minute_payload(tmp_path, {"epochs": 4}, enable_checkpointing=each), loss=loss)
        for each in (True, False)
    ]

    assert [run.model.selection.epoch for run in runs if run.model.selection is not None] == [1, None]
    length = "refinements.0.length"
    moved = [float(run.model.generator.weights[length] - run.learner.generator.weights[length]) for run in runs]
    assert moved == [6.0, 0.0]


def test_checkpoints_are_written_when_asked_for(tmp_path: Path) -> None:
    """The best one, named by epoch and metric, and the last one; or nothing at all."""
    observed(minute_payload(tmp_path / "on", enable_checkpointing=True))
    observed(minute_payload(tmp_path / "off", enable_checkpointing=False))

    best, newest = checkpoints(tmp_path / "on")
    assert best.startswith("epoch=0-poisson_val_loss=")
    assert newest == "last.ckpt"
    assert not (tmp_path / "off").exists()


@pytest.mark.parametrize(("top", "kept"), [(0, []), (1, [1]), (2, [1, 2]), (-1, [0, 1, 2])])
def test_the_best_checkpoints_are_kept(tmp_path: Path, top: int, kept: list[int]) -> None:
    """As many as asked for, -1 for all, beside the last one."""
    payload = minute_payload(tmp_path, {"epochs": 3}, enable_checkpointing=True, checkpoint_save_top_k=top)
    observed(payload, loss=lambda steps: abs(steps - 7.0) + 1)

    *names, newest = checkpoints(tmp_path)
    assert [int(name[6]) for name in names] == kept
    assert newest == "last.ckpt"


@pytest.mark.parametrize(
    ("asked", "fraction", "metric"),
    [
        ("val_loss", 0.12, "poisson_val_loss"),
        ("train_loss", 0.12, "poisson_train_loss"),
        ("poisson_train_loss", 0.12, "poisson_train_loss"),
        ("val_loss", 0.0, "poisson_train_loss"),
    ],
)
def test_checkpoints_are_ranked_by_the_metric_asked_for(
    tmp_path: Path, asked: str, fraction: float, metric: str
) -> None:
    """Its name is in the file name; where nothing is held out, it is the training loss."""
    settings: dict[str, object] = {"validation_fraction": fraction}
    observed(minute_payload(tmp_path, settings, enable_checkpointing=True, checkpoint_monitor_metric=asked))

    assert f"-{metric}=" in checkpoints(tmp_path)[0]


def test_an_unknown_metric_is_refused(tmp_path: Path) -> None:
    """The message lists those there are."""
    with pytest.raises(ConfigError, match=r"checkpoint_monitor_metric: expected one of .*val_loss, found 'accuracy'"):
        observed(minute_payload(tmp_path, checkpoint_monitor_metric="accuracy"))


@pytest.mark.parametrize(("mode", "kept"), [("min", 2), ("max", 0)])
def test_the_mode_says_which_end_is_good(tmp_path: Path, mode: str, kept: int) -> None:
    """The checkpoint that is kept is that of the lowest or of the highest loss."""
    observed(minute_payload(tmp_path, {"epochs": 3}, enable_checkpointing=True, checkpoint_mode=mode))

    assert checkpoints(tmp_path)[0].startswith(f"epoch={kept}-")


def test_a_training_ends_early_without_progress(tmp_path: Path) -> None:
    """Where falling counts as failing, patience runs out after as many epochs."""
    runs = [
        observed(minute_payload(tmp_path, {"epochs": 8}, checkpoint_mode="max", early_stop_patience=each))
        for each in (2, 4)
    ]

    assert [len(run.model.history) for run in runs] == [3, 5]
    assert len(observed(minute_payload(tmp_path, {"epochs": 8}, early_stop_patience=2)).model.history) == 8


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*nowhere\.ckpt"):
        observed(minute_payload(tmp_path, resume=tmp_path / "nowhere.ckpt"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with the file, the message names it."""
    file = tmp_path / "bad.ckpt"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*backend tensorflow .*bad\.ckpt"):
        observed(minute_payload(tmp_path, resume=file))


def test_a_checkpoint_of_torch_is_refused(tmp_path: Path) -> None:
    """And so is a torn one of our own, at whatever byte; nothing in either is executed."""
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "torch.ckpt")
    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*backend tensorflow .*torch\.ckpt"):
        observed(minute_payload(tmp_path, resume=tmp_path / "torch.ckpt"))

    observed(minute_payload(tmp_path, enable_checkpointing=True))
    whole = last(tmp_path).read_bytes()
    for size in (7, 200, len(whole) // 2, len(whole) - 1):
        last(tmp_path).write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*last\.ckpt"):
            read_checkpoint(last(tmp_path))


def test_a_checkpoint_of_another_network_or_optimiser_is_refused(tmp_path: Path) -> None:
    """The message names what differs."""
    settings: dict[str, object] = {"n_groups": 4}
    observed(minute_payload(tmp_path / "small", settings, enable_checkpointing=True))
    wider = minute_payload(tmp_path / "wide", {**settings, "n_filters_scale": 2}, resume=last(tmp_path / "small"))
    with pytest.raises(ConfigError, match=r"resume\.generator\..*: expected"):
        observed(wider)

    other = minute_payload(tmp_path / "other", settings, resume=last(tmp_path / "small"))
    with pytest.raises(ConfigError, match=r"resume\.optimizer\.first\..*: expected .*, found None"):
        tensorflow_backend.train(other, small_scan())


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Complete, as it was."""
    observed(minute_payload(tmp_path, enable_checkpointing=True))
    before = last(tmp_path).read_bytes()

    def full(_path: object, _content: bytes) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        observed(minute_payload(tmp_path, {"epochs": 2}, enable_checkpointing=True, resume=last(tmp_path)))
    monkeypatch.undo()

    assert last(tmp_path).read_bytes() == before
    assert not [*(tmp_path / "checkpoints").glob(".*")]
