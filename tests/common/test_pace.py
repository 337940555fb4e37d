"""The pace of a training that counts its own steps, and when it ends."""

from __future__ import annotations

import attrs
import pytest

from ptycho_adapters.common.monitoring import Patience
from ptycho_adapters.common.pace import Pace
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_core.config import PyTorchExecutionConfig, TorchTrainingConfig


@attrs.define
class FakeClock:
    """A clock that goes on when it is told to."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def pace(clock: FakeClock, duration: str | None, tail_s: float = 0.0) -> Pace:
    config = TorchTrainingConfig(epochs=10, scheduler="CosineAnnealing", lr_min_ratio=0.0)
    return Pace(config, TimeLimit(duration, now=clock), steps_per_epoch=10, tail_s=tail_s)


def step(made: Pace, clock: FakeClock, seconds: float) -> float:
    """Take a step that lasts so long; gives the factor on the learning rate."""
    with made.step() as factor:
        clock.now_s += seconds
    return factor


def test_without_a_limit_steps_make_the_pace() -> None:
    """Half of the steps is half of the run, however long they take."""
    clock = FakeClock()
    made = pace(clock, None)

    factors = [step(made, clock, 1e6) for _ in range(51)]

    assert factors[0] == 1.0
    assert factors[50] == pytest.approx(0.5)
    assert (made.steps, made.fraction, made.out_of_time) == (51, 0.51, False)


def test_a_limit_ends_a_run_before_a_step_that_it_has_no_room_for() -> None:
    """The longest of the last few steps is what the next one is taken to need; the first one, which traces, is not."""
    clock = FakeClock()
    made = pace(clock, "00:00:01:40", tail_s=10.0)

    ended = []
    for seconds in (40.0, 20.0, 20.0):
        step(made, clock, seconds)
        ended.append(made.out_of_time)

    assert ended == [False, False, True]  # 10 of the 90 seconds are left
    assert made.fraction == pytest.approx(80 / 90)


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_patience_ends_a_training_without_progress(mode: str, sign: float) -> None:
    """After so many epochs in a row that are no better than the best one."""
    patience = Patience(PyTorchExecutionConfig(early_stop_patience=2, checkpoint_mode=mode))  # type: ignore[arg-type]

    ended = [patience.ends(sign * loss) for loss in (3.0, 2.0, 2.5, 1.0, 1.0, 1.5)]

    assert ended == [False, False, False, False, False, True]
