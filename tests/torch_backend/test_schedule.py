"""Courses of the learning rate at points that can be worked out by hand."""

from __future__ import annotations

import math
import time

import attrs
import pytest

from ptycho_adapters.common.schedule import (
    Clock,
    Pieces,
    Progress,
    TimeLimit,
    learning_rate_factor,
    parse_duration_s,
)
from ptycho_adapters.torch_backend.training.callbacks import Schedule
from ptycho_core.config import TorchTrainingConfig
from torch_sample import FakeClock

START = Progress(step=0, total_steps=100, steps_per_epoch=10, elapsed_s=0.0, max_time_s=None)


def _factor(scheduler: str, step: int, **settings: object) -> float:
    config = TorchTrainingConfig(scheduler=scheduler, **settings)  # type: ignore[arg-type]
    return learning_rate_factor(config, attrs.evolve(START, step=step))


@pytest.mark.parametrize("scheduler", ["Default", "ReduceLROnPlateau", "Adaptive"])
def test_steady_schedules_stay(scheduler: str) -> None:
    """Nothing but a plateau changes them."""
    assert [_factor(scheduler, step) for step in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_exponential_decays_by_epoch_to_its_floor() -> None:
    """0.95 per epoch, not below the last ratio."""
    assert _factor("Exponential", 0) == 1.0
    assert _factor("Exponential", 20, lr_min_ratio=0.0) == pytest.approx(0.95**2)
    assert _factor("Exponential", 99, lr_min_ratio=0.9) == 0.9


@pytest.mark.parametrize("scheduler", ["WarmupCosine", "CosineAnnealing"])
def test_cosine_goes_from_one_to_the_last_ratio(scheduler: str) -> None:
    """1 at the start, the mean half way, the last ratio at the end, and a quarter as the cosine says."""
    last = 0.2
    assert _factor(scheduler, 0, lr_min_ratio=last) == pytest.approx(1.0)
    assert _factor(scheduler, 25, lr_min_ratio=last) == pytest.approx(last + 0.8 * 0.5 * (1 + math.sqrt(0.5)))
    assert _factor(scheduler, 50, lr_min_ratio=last) == pytest.approx(0.6)
    assert _factor(scheduler, 100, lr_min_ratio=last) == pytest.approx(last)


def test_multi_stage_drops_twice() -> None:
    """A tenth from the half on, a hundredth from three quarters on."""
    course = [_factor("MultiStage", step) for step in (0, 49, 50, 74, 75, 99)]

    assert course == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("scheduler", ["Default", "Exponential", "WarmupCosine", "MultiStage", "ReduceLROnPlateau"])
def test_every_schedule_can_warm_up(scheduler: str) -> None:
    """Over the warm-up epochs the rate rises evenly from one step's share to the whole."""
    rates = [_factor(scheduler, step, lr_warmup_epochs=2) for step in range(20)]

    assert rates == pytest.approx([(step + 1) / 20 for step in range(20)])


def test_progress_is_by_steps_or_by_time_whichever_is_further() -> None:
    """A run limited by time passes through its whole schedule in that time."""
    half = attrs.evolve(START, step=50)

    assert half.fraction == 0.5
    assert attrs.evolve(half, elapsed_s=9.0, max_time_s=10.0).fraction == 0.9
    assert attrs.evolve(half, elapsed_s=1.0, max_time_s=10.0).fraction == 0.5
    assert attrs.evolve(half, elapsed_s=11.0, max_time_s=10.0).fraction == 1.0


def test_a_timed_cosine_ends_with_the_time() -> None:
    """At the limit the learning rate is the last one, however few steps were done."""
    config = TorchTrainingConfig(scheduler="CosineAnnealing", lr_min_ratio=0.05)
    late = attrs.evolve(START, step=3, elapsed_s=60.0, max_time_s=60.0)

    assert learning_rate_factor(config, late) == pytest.approx(0.05)


def test_durations_are_read() -> None:
    """Days, hours, minutes and seconds."""
    assert parse_duration_s("00:00:10:00") == 600.0
    assert parse_duration_s("02:03:04:05") == 2 * 86400 + 3 * 3600 + 4 * 60 + 5


def test_time_already_spent_is_known_after_a_resume() -> None:
    """A schedule that takes up another's state goes on from its time and its plateaus, with all of its limit left."""
    config, clock = TorchTrainingConfig(scheduler="Adaptive"), FakeClock()
    before, after = (Schedule(config, TimeLimit("00:00:10:00", clock)) for _ in range(2))
    state = before.state_dict()
    state["elapsed_s"] = 300.0
    state["plateau"]["factor"] = 0.25

    after.load_state_dict(state)
    clock.now_s += 5.0

    assert after.state_dict()["elapsed_s"] == 305.0
    clock.now_s += 590.0
    over = [after.out_of_time]
    clock.now_s += 5.0
    over.append(after.out_of_time)
    assert over == [False, True]
    assert after.state_dict()["plateau"] == state["plateau"]


def test_a_clock_goes_on_from_where_it_is_set() -> None:
    """It counts the seconds since then, on top of those already spent."""
    now = FakeClock(now_s=1000.0)
    clock = Clock(now)
    now.now_s += 2.0
    assert clock.elapsed_s == 2.0

    clock.set(100.0)
    now.now_s += 0.5

    assert clock.elapsed_s == 100.5


def test_a_limit_counts_real_seconds_unless_told_otherwise() -> None:
    """Between two looks at the machine's own clock lies what that clock says."""
    before = time.monotonic()
    limit = TimeLimit("00:01:00:00")
    made = time.monotonic()
    while time.monotonic() == made:
        pass

    left_s = limit.left_s

    assert left_s is not None
    assert 0.0 < 3600.0 - left_s <= time.monotonic() - before


def test_a_limit_that_is_over_leaves_a_little() -> None:
    """A millisecond, for one step; before, what is left, and shares are told apart."""
    clock = FakeClock()
    limit = TimeLimit("00:00:00:10", clock)

    clock.now_s = 4.0
    assert limit.left_s == 6.0
    assert (limit.has_spent(0.4), limit.has_spent(0.5)) == (True, False)
    assert (limit.left_until_s(0.5), limit.left_until_s(0.3)) == (1.0, 0.0)
    tenth = limit.part(0.1)
    assert not tenth()
    clock.now_s = 5.0
    assert tenth()
    clock.now_s = 11.0
    assert limit.left_s == 1e-3


def test_a_piece_is_begun_if_it_would_end_in_time() -> None:
    """The first one is taken to last as long as it is said to, the others as long as the longest so far."""
    clock = FakeClock()
    full = Pieces(TimeLimit("00:00:00:20", clock), 0.5, first_s=4.0)

    lasting = [1.0, 3.0, 5.0, 1.0]
    begun: list[float] = []
    while not full():
        clock.now_s += lasting[len(begun)]
        begun.append(clock.now_s)

    assert begun == [1.0, 4.0, 9.0]
    assert Pieces(TimeLimit("00:00:00:20", FakeClock()), 0.5, first_s=11.0)()
    assert not Pieces(TimeLimit(None, FakeClock()), 0.5, first_s=11.0)()
