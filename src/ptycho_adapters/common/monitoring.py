"""What the losses of a training decide: the learning rate at plateaus, an early end, and which state is kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import attrs

from ptycho_core.errors import ConfigError, NotFiniteError, Problem

if TYPE_CHECKING:
    from ptycho_core.config import PyTorchExecutionConfig, TorchTrainingConfig

Watched = Literal["train", "held out"]


def watched_loss(execution: PyTorchExecutionConfig, loss_name: str, *, validates: bool) -> Watched:
    """Loss that ranks checkpoints and ends runs.

    Args:
        execution: names it: 'val_loss' or 'train_loss', or in full with the loss in front. Where nothing is held out,
            the held-out loss is the training loss.
        loss_name: what the main term of the loss is, the start of the metrics' names.
        validates: whether something is held out.

    Raises:
        ConfigError: there is no metric of that name.
    """
    known: dict[str, Watched] = {
        "train_loss": "train",
        "val_loss": "held out" if validates else "train",
    }
    names = known | {f"{loss_name}_{name}": which for name, which in known.items()}
    asked = execution.checkpoint_monitor_metric
    if asked not in names:
        problem = Problem(
            path="checkpoint_monitor_metric", expected="one of " + ", ".join(sorted(names)), found=repr(asked)
        )
        raise ConfigError("training", [problem])
    return names[asked]


@attrs.define
class PatienceState:
    """What a detector of an end of progress remembers: the best loss, its sign turned where high is good."""

    best: float = math.inf
    waited: int = 0


class Patience:
    """Ends a training that makes no progress.

    Args:
        execution: says how long that may go on, and what progress is.
    """

    def __init__(self, execution: PyTorchExecutionConfig) -> None:
        self._sign = 1.0 if execution.checkpoint_mode == "min" else -1.0
        self._patience = execution.early_stop_patience
        self.state = PatienceState()

    def ends(self, loss: float) -> bool:
        """Take an epoch's loss into account, and tell whether it is to be the last one: at once if it is no number."""
        if not math.isfinite(loss):
            return True
        if self._sign * loss < self.state.best:
            self.state = PatienceState(best=self._sign * loss)
            return False
        self.state.waited += 1
        return self.state.waited >= self._patience


def start_is_kept(start_loss: float, end_loss: float) -> bool:
    """Tell whether the start of a training explains what is held out at least as well as its end."""
    return math.isfinite(start_loss) and not end_loss < start_loss


def explains_better(one: float, other: float, *, sign: float = 1.0) -> bool:
    """Tell whether a loss is better than another one; what is no number is worse than any that is.

    Args:
        one: loss.
        other: loss.
        sign: 1 where low is good, -1 where high is.
    """
    return math.isfinite(one) and not (math.isfinite(other) and sign * one >= sign * other)


def check_kept(start_loss: float, end_loss: float) -> None:
    """Refuse a training of which neither start nor end can be kept.

    Args:
        start_loss: held-out loss before the first step.
        end_loss: that of the end, the best epoch where that is known.

    Raises:
        NotFiniteError: both are NaN or infinite.
    """
    if math.isfinite(start_loss) or math.isfinite(end_loss):
        return
    problem = Problem(
        path="held-out loss",
        expected="a finite one, of the start or an epoch",
        found=f"{start_loss} before the first step and {end_loss} at the end: network or data give values that are not "
        "finite",
        fix="look at what the network makes of these patterns, and at the patterns themselves; nothing was saved",
    )
    raise NotFiniteError("training", [problem])


@attrs.define
class PlateauState:
    """What a plateau detector remembers."""

    best: float = math.inf
    waited: int = 0
    factor: float = 1.0


class Plateau:
    """Lowers the learning rate when an epoch's loss stops falling.

    `ReduceLROnPlateau` watches the validation loss where there is one; `Adaptive` watches the training loss.
    """

    def __init__(self, config: TorchTrainingConfig) -> None:
        self._config = config
        self.state = PlateauState()

    def watch(self, *, train: float | None, held_out: float | None) -> None:
        """Take one epoch into account; a loss that was not measured is None."""
        loss = self._watched(train, held_out)
        if loss is None:
            return
        if loss < self.state.best - self._config.plateau_threshold:
            self.state.best, self.state.waited = loss, 0
            return
        self.state.waited += 1
        if self.state.waited > self._config.plateau_patience:
            self.state.factor *= self._config.plateau_factor
            self.state.waited = 0

    def floored(self, base: float, factor: float) -> float:
        """Learning rate of a group, not below `plateau_min_lr` because of plateaus."""
        if self.state.factor == 1.0:
            return base * factor
        return max(base * factor, min(base, self._config.plateau_min_lr))

    def _watched(self, train: float | None, held_out: float | None) -> float | None:
        if self._config.scheduler == "ReduceLROnPlateau":
            return train if held_out is None else held_out
        return train if self._config.scheduler == "Adaptive" else None
