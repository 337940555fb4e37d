"""How a training ends and goes on: its time limit, its checkpoints, and what it is taken up from."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ptycho_adapters.commands.train import warn_of_few_steps
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_adapters.torch_backend import train
from ptycho_adapters.torch_backend.generalist import pretrained_generator
from ptycho_adapters.torch_backend.inference import preparation
from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan
from ptycho_adapters.torch_backend.training import collapse
from ptycho_adapters.torch_backend.training.module import PtychoModule
from ptycho_core.errors import ConfigError
from torch_sample import (
    TRAINER,
    FakeClock,
    observed_training,
    payload_for,
    quick_training,
    same,
    tiny_scan,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _checkpoints(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "checkpoints").iterdir())


LONG: dict[str, object] = {"epochs": 40, "scheduler": "CosineAnnealing", "lr_min_ratio": 0.01}


def test_a_time_limit_ends_the_run_cleanly(tmp_path: Path) -> None:
    """After the step in which it is reached, in the middle of an epoch too, its schedule gone through by the time."""
    run = observed_training(payload_for(tmp_path, LONG, max_time="00:00:00:01"), clock=FakeClock(step_s=1 / 16))

    rates = [rates["network"] for rates in run.observer.rates]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    assert rates == pytest.approx([2e-3 * (0.01 + 0.99 * factor) for factor in cosine])
    assert [row.steps for row in run.model.history] == [3, 6, 9, 12, 15, 16]
    assert not run.trainer.interrupted


def test_a_time_limit_that_left_few_steps_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of a handful of steps may be worse than what it started from; without a limit nobody is surprised."""
    said = []
    for limit in ({"max_time": "00:01:00:00"}, {}):
        model = train(payload_for(tmp_path, {"nepochs": 1}, **limit), tiny_scan())
        assert model.history[-1].steps < 20
        warn_of_few_steps(model)
        said.append(capsys.readouterr().err)

    assert "steps fitted into --max-time; before you rely on this model" in said[0]
    assert "max-time" not in said[1]


def test_a_time_limit_counts_the_rounds_of_the_probe(tmp_path: Path) -> None:
    """However many are asked for, half of the time is left for the training."""
    settings = {"epochs": 200, "n_groups": 2, "probe_rounds": 200}

    run = observed_training(payload_for(tmp_path, settings, max_time="00:00:00:04"), clock=FakeClock(look_s=1 / 64))

    assert 1.5 <= run.observer.times_s[0] < 2.5
    assert 3.5 < run.observer.times_s[-1] < 4.0
    assert len(run.model.history) > 1


@pytest.mark.parametrize(("limit_s", "pattern_s"), [(2, 1 / 64), (10, 1 / 16), (20, 1 / 4)])
@pytest.mark.parametrize(
    "settings", [{}, {"n_groups": 36, "gridsize": 1, "validation_fraction": 0.5}], ids=["", "large"]
)
def test_a_time_limit_is_a_promise(
    tmp_path: Path, limit_s: int, pattern_s: float, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a pattern takes, all of a training together stays within its limit, and uses most of it."""
    clock = FakeClock()

    def slow(owner: object, name: str, patterns: Callable[..., int]) -> None:
        quick = getattr(owner, name)

        def slowed(*given: object, **named: object) -> object:
            clock.now_s += pattern_s * patterns(*given)
            return quick(*given, **named)

        monkeypatch.setattr(owner, name, slowed)

    slow(PtychoModule, "predict_groups", lambda _self, indices, *_: indices.numel())
    slow(WholeScan, "stitch", lambda self, *_: len(self.indices))
    slow(preparation, "look_for_focus", lambda _probe, _scan, patterns, _background: len(patterns))
    slow(collapse, "symptoms", lambda _module, indices, _scan: indices.numel())
    payload = payload_for(
        tmp_path,
        {"epochs": 10**6, "probe_rounds": 30, "batch_size": 1, **settings},
        max_time=f"00:00:00:{limit_s:02}",
        enable_checkpointing=True,
    )

    run = observed_training(payload, clock=clock)

    assert 0.7 * limit_s < clock.now_s <= 1.1 * limit_s
    assert run.observer.times_s[0] <= 0.7 * limit_s
    assert run.model.selection is not None


def test_a_step_is_taken_however_late(tmp_path: Path) -> None:
    """Where preparing has used up the limit, there still is a trained model, not an untrained one."""
    run = observed_training(payload_for(tmp_path, LONG, max_time="00:00:00:01"), clock=FakeClock(look_s=10.0))

    assert len(run.observer.batches) == 1
    assert [row.steps for row in run.model.history] == [1]


@pytest.mark.parametrize("asked", [None, 0])
def test_nothing_is_trained_under_a_probe_that_had_no_round(
    tmp_path: Path, asked: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is kept, and that is said; a probe that is to stay as it is needs no round."""
    settings = {
        "architecture": "unrolled",
        "n_filters_scale": 2,
        "unrolled_steps": 6,
        "epochs": 1,
        "probe_rounds": asked,
    }
    payload = payload_for(tmp_path, settings, max_time="00:00:00:01")
    monkeypatch.setattr(f"{TRAINER}.TimeLimit", partial(TimeLimit, now=FakeClock(look_s=10.0)))

    with nullcontext() if asked == 0 else pytest.warns(UserWarning, match="nothing was trained"):
        model = train(payload, tiny_scan())

    assert [row.steps for row in model.history] == ([1] if asked == 0 else [])
    if asked is None:
        held = model.generator.state_dict()
        assert all(torch.equal(held[name], value) for name, value in pretrained_generator().state_dict().items())


def test_a_run_that_is_taken_up_has_its_limit_once_more(tmp_path: Path) -> None:
    """As many seconds as it is given now, however many there were before; its schedule is that of both together."""
    payload = payload_for(tmp_path, LONG, max_time="00:00:00:01", enable_checkpointing=True)
    first = observed_training(payload, clock=FakeClock(step_s=1 / 16))
    payload = payload_for(tmp_path, LONG, max_time="00:00:00:01", resume=tmp_path / "checkpoints" / "last.ckpt")

    rest = observed_training(payload, clock=FakeClock(step_s=1 / 16))

    rates = [rates["network"] for rates in rest.observer.rates]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 32)) for step in range(16, 32)]
    assert rates == pytest.approx([2e-3 * (0.01 + 0.99 * factor) for factor in cosine])
    assert rest.model.history[: len(first.model.history)] == first.model.history


def test_a_second_run_leaves_no_checkpoint_of_the_first(tmp_path: Path) -> None:
    """Whether it writes checkpoints or not; one that goes on from there may leave what it started from."""

    def last() -> tuple[list[str], int | None]:
        names = _checkpoints(tmp_path)
        file = tmp_path / "checkpoints" / "last.ckpt"
        return [name for name in names if name.startswith("last")], (
            torch.load(file, weights_only=True)["epoch"] if file.exists() else None
        )

    quick_training(tmp_path, {"epochs": 3}, enable_checkpointing=True)
    quick_training(tmp_path, {"epochs": 2}, enable_checkpointing=True)
    assert last() == (["last.ckpt"], 1)
    going_on = {"resume": tmp_path / "checkpoints" / "last.ckpt", "enable_checkpointing": False}
    quick_training(tmp_path, {"epochs": 3}, **going_on)
    assert last() == (["last.ckpt"], 1)
    quick_training(tmp_path, {"epochs": 1}, enable_checkpointing=False)
    assert last() == ([], None)


@pytest.mark.parametrize(("epochs", "refused"), [(1, True), (2, False)])
def test_fewer_epochs_than_done_are_refused(tmp_path: Path, epochs: int, refused: bool) -> None:
    """The message has both numbers; as many as done leave everything as it was."""
    first = quick_training(tmp_path, {"epochs": 2}, enable_checkpointing=True)
    payload = payload_for(tmp_path, {"epochs": epochs}, resume=tmp_path / "checkpoints" / "last.ckpt")

    if refused:
        with pytest.raises(ConfigError, match=r"epochs: expected at least the 2 that .*last\.ckpt has .*, found 1"):
            train(payload, tiny_scan())
    else:
        assert same(train(payload, tiny_scan()), first)


def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    """From a checkpoint half way, the rest of the run gives the whole run's result, bit for bit."""
    settings: dict[str, object] = {"epochs": 4, "scheduler": "CosineAnnealing"}
    whole = quick_training(tmp_path, settings, enable_checkpointing=True, checkpoint_save_top_k=-1)
    (half,) = (tmp_path / "checkpoints").glob("epoch=1-*")

    rest = observed_training(payload_for(tmp_path / "rest", settings, enable_checkpointing=True, resume=half))

    assert len(rest.observer.batches) == 6
    assert [row.epoch for row in rest.model.history] == [0, 1, 2, 3]
    np.testing.assert_array_equal(weights(rest.model), weights(whole))
    assert same(rest.model, whole)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*nowhere\.ckpt"):
        quick_training(tmp_path, resume=tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with the file, the message names it."""
    file = tmp_path / "bad.ckpt"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"resume: expected a checkpoint .*bad\.ckpt"):
        quick_training(tmp_path, resume=file)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    """The message names a weight that differs."""
    quick_training(tmp_path / "small", enable_checkpointing=True)
    checkpoint = tmp_path / "small" / "checkpoints" / "last.ckpt"

    with pytest.raises(ConfigError, match=r"resume\.generator\..*weight: expected"):
        quick_training(tmp_path / "large", {"n_filters_scale": 2}, resume=checkpoint)
