"""The pace of a training that counts its own steps: learning rate, progress and the end of its time."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ptycho_adapters.common.schedule import Clock, Progress, TimeLimit, learning_rate_factor, out_of_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.config import TorchTrainingConfig

_RECENT_STEPS = 8  # the longest of which the next one is taken to last


class Pace:
    """Where a run stands.

    Args:
        config: names the scheduler and its numbers, and the epochs.
        limit: of the run; the schedule passes in what is left of it now.
        steps_per_epoch: optimiser steps of one epoch.
        tail_s: seconds to leave for what comes after the last step.

    Attributes:
        steps: that are done.
    """

    def __init__(
        self, config: TorchTrainingConfig, limit: TimeLimit, *, steps_per_epoch: int, tail_s: float = 0.0
    ) -> None:
        self._config, self._per_epoch = config, steps_per_epoch
        self._max_time_s = None if limit.left_s is None else max(1e-3, limit.left_s - tail_s)
        self._clock = Clock(limit.now)
        self._steps_s: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._first = True
        self.steps = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of the run, those before it was taken up included."""
        return self._clock.elapsed_s

    def take_up(self, steps: int, elapsed_s: float) -> None:
        """Go on from where a run stopped, with all of the limit once more; the schedule is that of both together.

        Args:
            steps: that it had done.
            elapsed_s: seconds that it had taken.
        """
        self.steps = steps
        self._clock.set(elapsed_s)
        if self._max_time_s is not None:
            self._max_time_s += elapsed_s

    @contextmanager
    def step(self) -> Iterator[float]:
        """Time a step; gives the factor on the first learning rate."""
        progress = self._progress
        yield learning_rate_factor(self._config, progress)
        # What happens once, such as the tracing of a graph, says nothing about the next step.
        if not self._first:
            self._steps_s.append(self._clock.elapsed_s - progress.elapsed_s)
        self._first = False
        self.steps += 1

    @property
    def fraction(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return self._progress.fraction

    @property
    def out_of_time(self) -> bool:
        """Whether the limit is reached, or would be passed by a step as long as the longest of the last few."""
        return out_of_time(self._max_time_s, self._clock.elapsed_s, self._steps_s)

    @property
    def _progress(self) -> Progress:
        return Progress(
            step=self.steps,
            total_steps=self._per_epoch * self._config.epochs,
            steps_per_epoch=self._per_epoch,
            elapsed_s=self._clock.elapsed_s,
            max_time_s=self._max_time_s,
        )
