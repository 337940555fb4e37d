"""Courses of the learning rate, as functions of the progress of a run."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, assert_never

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ptycho_core.config import TorchTrainingConfig

_EXPONENTIAL_GAMMA = 0.95
_MILESTONES = (0.5, 0.75)
_MILESTONE_FACTOR = 0.1


@attrs.frozen(kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        total_steps: steps that the epochs ask for.
        steps_per_epoch: steps of one epoch.
        elapsed_s: seconds since the start.
        max_time_s: time limit, or None.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    elapsed_s: float
    max_time_s: float | None

    @property
    def fraction(self) -> float:
        """How much of the run is done, from 0 to 1: by steps or by time, whichever is further."""
        by_steps = self.step / self.total_steps
        by_time = 0.0 if self.max_time_s is None else self.elapsed_s / self.max_time_s
        return min(1.0, max(by_steps, by_time))


def out_of_time(max_time_s: float | None, elapsed_s: float, steps_s: Iterable[float]) -> bool:
    """Tell whether a limit is reached, or would be passed by a step as long as the longest of the last few.

    Args:
        max_time_s: seconds of the limit; None for no limit.
        elapsed_s: seconds so far.
        steps_s: seconds that the last few steps took.
    """
    if max_time_s is None:
        return False
    left_s = max_time_s - elapsed_s
    return left_s <= 0.0 or max(steps_s, default=0.0) > left_s


def learning_rate_factor(config: TorchTrainingConfig, progress: Progress) -> float:
    """Factor on the first learning rate.

    A run that is limited by time passes through its whole schedule in that time.

    Args:
        config: names the scheduler and its numbers.
        progress: where the run stands.

    Returns:
        A factor >= 0. `ReduceLROnPlateau` reacts to the loss instead and gives the warm-up only.
    """
    warm_steps = config.lr_warmup_epochs * progress.steps_per_epoch
    if progress.step < warm_steps:
        return (progress.step + 1) / warm_steps
    match config.scheduler:
        case "Default" | "ReduceLROnPlateau" | "Adaptive":
            return 1.0
        case "Exponential":
            epochs = progress.step / progress.steps_per_epoch
            return max(config.lr_min_ratio, math.pow(_EXPONENTIAL_GAMMA, epochs))
        case "WarmupCosine" | "CosineAnnealing":
            cosine = 0.5 * (1.0 + math.cos(math.pi * progress.fraction))
            return config.lr_min_ratio + (1.0 - config.lr_min_ratio) * cosine
        case "MultiStage":
            passed = sum(progress.fraction >= milestone for milestone in _MILESTONES)
            return float(_MILESTONE_FACTOR**passed)
        case unknown:
            assert_never(unknown)


class Clock:
    """Seconds since it was set; pauses are not subtracted.

    Args:
        now: seconds of any clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was set, plus what it was set to."""
        return self._now() - self._start

    def set(self, elapsed_s: float) -> None:
        """Go on from here."""
        self._start = self._now() - elapsed_s


class TimeLimit:
    """What a run may take, from the moment that this is made.

    Args:
        duration: DD:HH:MM:SS, or None for no limit.
        now: seconds of any clock that never goes back.

    Attributes:
        seconds: the limit; None without one.
    """

    def __init__(self, duration: str | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = None if duration is None else parse_duration_s(duration)
        self._clock = Clock(now)
        self.now = now

    @property
    def left_s(self) -> float | None:
        """Seconds left, at least one millisecond, so that a step can still be taken; None without a limit."""
        return None if self.seconds is None else max(1e-3, self.seconds - self._clock.elapsed_s)

    def left_until_s(self, share: float) -> float | None:
        """Seconds left until this share of the time is over, not below 0; None without a limit."""
        return None if self.seconds is None else max(0.0, share * self.seconds - self._clock.elapsed_s)

    def has_spent(self, share: float) -> bool:
        """Tell whether this share of the time is over."""
        return self.left_until_s(share) == 0.0

    def part(self, share: float) -> Callable[[], bool]:
        """Give what tells whether this share of the time has passed from now on; never, without a limit."""
        clock, seconds = Clock(self.now), self.seconds
        return lambda: seconds is not None and clock.elapsed_s >= share * seconds


class Pieces:
    """Tells before each piece of work, all much alike, whether it would end too late.

    Args:
        limit: of the run.
        share: of the limit by the end of which the last piece has to be done.
        first_s: seconds that the first piece is taken to need; the others as many as the longest one so far.
    """

    def __init__(self, limit: TimeLimit, share: float, first_s: float = 0.0) -> None:
        self._limit, self._share = limit, share
        self._expected_s = first_s
        self._clock: Clock | None = None

    def __call__(self) -> bool:
        """Tell whether there is time for no other piece; asked once before each of them."""
        if self._clock is not None:
            self._expected_s = max(self._expected_s, self._clock.elapsed_s)
        left_s = self._limit.left_until_s(self._share)
        self._clock = Clock(self._limit.now)
        return left_s is not None and self._expected_s > left_s


def parse_duration_s(text: str) -> float:
    """Seconds of a DD:HH:MM:SS duration."""
    days, hours, minutes, seconds = (int(part) for part in text.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
