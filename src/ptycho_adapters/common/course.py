"""The course of a training that counts its own epochs: what it remembers beside its weights, and what that decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.common.model import EpochLosses
from ptycho_adapters.common.monitoring import Patience, PatienceState, Plateau, PlateauState
from ptycho_adapters.common.step_means import StepMeans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.common.monitoring import Watched
    from ptycho_adapters.common.pace import Pace
    from ptycho_core.config.payload import TrainingPayload


@attrs.frozen(kw_only=True)
class Memory:
    """A course after a step, in plain values.

    Attributes:
        steps: optimiser steps done.
        elapsed_s: seconds since the start.
        history: losses by epoch.
        step_losses: by step, the last step of some batches, their mean loss, and how many they are.
        plateau: decides on the learning rate.
        patience: decides on an early end.
        begun: loss and size of each batch of the epoch that is going on.
    """

    steps: int
    elapsed_s: float
    history: tuple[EpochLosses, ...]
    step_losses: tuple[tuple[int, float, int], ...]
    plateau: PlateauState
    patience: PatienceState
    begun: tuple[tuple[float, int], ...] = ()


class Course:
    """Where a training stands.

    Args:
        payload: resolved settings.
        pace: of its steps.
        watched: loss that ranks checkpoints and ends runs.

    Attributes:
        pace: the same.
        steps: losses by step.
        history: losses by epoch.
        begun: loss and size of each batch of the epoch that is going on.
    """

    def __init__(self, payload: TrainingPayload, pace: Pace, watched: Watched) -> None:
        self._config, self._watched = payload.pt_training_config, watched
        self.pace, self.steps = pace, StepMeans()
        self.history: list[EpochLosses] = []
        self.begun: list[tuple[float, int]] = []
        self._plateau, self._patience = Plateau(self._config), Patience(payload.execution_config)

    @property
    def watched_name(self) -> str:
        """What the watched loss is called after the name of the main term."""
        return "train_loss" if self._watched == "train" else "val_loss"

    def epochs(self) -> Iterator[int]:
        """Count the epochs that are left. One that is asked for too late is none, unless no step was ever taken."""
        for epoch in range(len(self.history), self._config.epochs):
            if self.pace.steps and self.pace.out_of_time:
                return
            yield epoch

    def rate(self, factor: float) -> float:
        """Learning rate at a factor of the schedule, lowered by plateaus."""
        return self._plateau.floored(self._config.learning_rate, factor * self._plateau.state.factor)

    def end_batch(self, loss: float, size: int) -> None:
        """Take down the loss of a batch."""
        self.begun.append((loss, size))
        self.steps.append((self.pace.steps, loss, 1))

    @property
    def mean_loss(self) -> float:
        """Mean loss of the batches of the epoch so far, each weighted by its size."""
        losses, sizes = zip(*self.begun, strict=True)
        return float(np.average(losses, weights=sizes))

    def end_epoch(self, losses: EpochLosses) -> bool:
        """Take down the losses of an epoch, and tell whether it is to be the last one."""
        self.history.append(losses)
        self.begun = []
        self._plateau.watch(train=losses.train, held_out=losses.validation)
        ends = self._patience.ends(self.watched_loss)
        return self.pace.out_of_time or ends

    @property
    def watched_loss(self) -> float:
        """Loss of the last epoch that ranks checkpoints and ends runs."""
        last = self.history[-1]
        return last.validation if self._watched == "held out" and last.validation is not None else last.train

    def remembered(self) -> Memory:
        """Give all of it."""
        return Memory(
            steps=self.pace.steps,
            elapsed_s=self.pace.elapsed_s,
            history=tuple(self.history),
            step_losses=tuple(self.steps.rows),
            plateau=attrs.evolve(self._plateau.state),
            patience=attrs.evolve(self._patience.state),
            begun=tuple(self.begun),
        )

    def take_up(self, memory: Memory) -> None:
        """Go on from where a training stopped."""
        self.pace.take_up(memory.steps, memory.elapsed_s)
        self.history, self.steps = list(memory.history), StepMeans(memory.step_losses)
        self.begun = list(memory.begun)
        self._plateau.state, self._patience.state = attrs.evolve(memory.plateau), attrs.evolve(memory.patience)
