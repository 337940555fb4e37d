"""What happens around the training steps: learning rates, progress, gradient norms."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ptycho_adapters.common.bars import Bar
from ptycho_adapters.common.monitoring import Plateau, PlateauState
from ptycho_adapters.common.schedule import Clock, Progress, TimeLimit, learning_rate_factor, out_of_time
from ptycho_adapters.stages import say
from ptycho_adapters.torch_backend.training.module import MAIN
from ptycho_adapters.torch_backend.training.step_losses import StepLosses

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.data.groups import GroupBatch
    from ptycho_core.config import TorchTrainingConfig

_RECENT_STEPS = 8  # the longest of which the next one is taken to last
# A probe that moves before the network can tell object from noise is led astray; its aberrations are few and may
# start early.
_WAIT = {"probe": 0.1, "aberrations": 0.02}


class Schedule(Callback):
    """Sets every parameter group's learning rate before each step, from the progress in steps and in time.

    A run that is taken up from a checkpoint has all of the limit once more: the course of its learning rate is that of
    one run that was given the time of both.

    Args:
        config: names the scheduler and its numbers.
        limit: of the run; the schedule passes in what is left of it now.
        tail_s: seconds to leave for what comes after the last step.
    """

    def __init__(self, config: TorchTrainingConfig, limit: TimeLimit, tail_s: float = 0.0) -> None:
        self._config = config
        self._max_time_s = None if limit.left_s is None else max(1e-3, limit.left_s - tail_s)
        self._clock = Clock(limit.now)
        self._steps_s: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._step_began_s = 0.0
        self._plateau = Plateau(config)

    def state_dict(self) -> dict[str, Any]:
        """Keep the time already spent and the plateau count, for resuming."""
        return {"elapsed_s": self._clock.elapsed_s, "plateau": attrs.asdict(self._plateau.state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where a checkpoint stopped."""
        before_s = float(state_dict["elapsed_s"])
        self._clock.set(before_s)
        if self._max_time_s is not None:
            self._max_time_s += before_s
        self._plateau.state = PlateauState(**state_dict["plateau"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of a fresh run."""
        del pl_module
        if trainer.global_step == 0:
            self._clock.set(0.0)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Set the learning rates."""
        del pl_module, batch, batch_idx
        progress = self.progress(trainer)
        self._step_began_s = progress.elapsed_s
        if self._max_time_s is not None:
            # Where several processes train together, the first one's clock counts for all.
            progress = trainer.strategy.broadcast(progress)
        factor = learning_rate_factor(self._config, progress) * self._plateau.state.factor
        for group in trainer.optimizers[0].param_groups:
            waiting = progress.fraction < _WAIT.get(group["name"], 0.0)
            group["lr"] = 0.0 if waiting else self._plateau.floored(group["base_lr"], factor)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Take down how long the step took."""
        del trainer, pl_module, outputs, batch, batch_idx
        self._steps_s.append(self._clock.elapsed_s - self._step_began_s)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the learning rate and look for a plateau."""
        losses = {key.split("_")[1]: float(v) for key, v in trainer.callback_metrics.items() if key.endswith("_loss")}
        self._plateau.watch(train=losses.get("train"), held_out=losses.get("val"))
        pl_module.log("learning_rate", float(trainer.optimizers[0].param_groups[0]["lr"]), sync_dist=True)

    @property
    def out_of_time(self) -> bool:
        """Whether the limit is reached, or would be passed by a step as long as the longest of the last few."""
        return out_of_time(self._max_time_s, self._clock.elapsed_s, self._steps_s)

    def progress(self, trainer: Trainer) -> Progress:
        """Where the run stands."""
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        epochs = trainer.max_epochs or 1
        return Progress(
            step=trainer.global_step,
            total_steps=per_epoch * epochs,
            steps_per_epoch=per_epoch,
            elapsed_s=self._clock.elapsed_s,
            max_time_s=self._max_time_s,
        )


class TimeUp(Callback):
    """Ends a run after the last step that its time has room for; of a run that is taken up too late, before the first.

    Args:
        schedule: knows the time.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock of a run that is taken up; a fresh one is always given a step."""
        del pl_module
        if trainer.global_step > 0:
            self._end_in_time(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Look at the clock."""
        del pl_module, outputs, batch, batch_idx
        self._end_in_time(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock once more: validation takes time too."""
        del pl_module
        self._end_in_time(trainer)

    def _end_in_time(self, trainer: Trainer) -> None:
        # Where several processes train together, the first one's clock counts for all.
        if trainer.strategy.broadcast(self._schedule.out_of_time):
            trainer.should_stop = True


class ProgressBar(Callback):
    """One bar on standard error for the whole run, whether epochs or time end it, with the last epoch's losses.

    Args:
        schedule: knows how much of the run is done.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._figures: dict[str, object] = {}
        self._bar: Bar | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        del pl_module
        self._bar = Bar("training", done=self._schedule.progress(trainer).fraction)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Advance; the step's loss is read from the device only when the bar is about to be drawn."""
        del pl_module, batch, batch_idx
        if self._bar is None:
            return
        if self._bar.wants_figures():
            self._figures |= {"epoch": trainer.current_epoch + 1, "steps": trainer.global_step, **_now(outputs)}
            self._bar.say(**self._figures)
        self._bar.come_to(self._schedule.progress(trainer).fraction)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the losses once per epoch."""
        del pl_module
        if self._bar is not None:
            losses = {k.split("_")[1]: f"{float(v):.4f}" for k, v in trainer.callback_metrics.items() if "loss" in k}
            self._figures |= {"epoch": trainer.current_epoch + 1, "steps": trainer.global_step, **losses}
            self._bar.say(**self._figures)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar before the traceback or message."""
        del exception
        self.on_train_end(trainer, pl_module)


def _now(outputs: object) -> dict[str, object]:
    """Give the loss of the step that was just made."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return {"now": f"{float(loss):.4f}"} if isinstance(loss, torch.Tensor) else {}


class EpochLines(Callback):
    """Says of each epoch in the log how long it took and what its losses are; of each step that it is done."""

    def __init__(self) -> None:
        self._began_s = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        del trainer, pl_module
        self._began_s = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Say that a step is done; no value is read from the device."""
        del pl_module, outputs, batch, batch_idx
        say("step", {"number": trainer.global_step}, level=logging.DEBUG)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say it."""
        del pl_module
        losses = {f"{k.split('_')[1]}_loss": float(v) for k, v in trainer.callback_metrics.items() if "loss" in k}
        seconds = time.perf_counter() - self._began_s
        counts = {"number": trainer.current_epoch + 1, "steps": trainer.global_step}
        say("epoch", {"seconds": seconds, **counts, **losses})


class GradientNorm(Callback):
    """Logs the norm of the gradient of everything that is trained, before it is bounded, every few steps.

    Args:
        every_n_steps: steps between two values.
    """

    def __init__(self, every_n_steps: int) -> None:
        self._every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm; its value is read from the device in these steps only."""
        del optimizer
        if trainer.global_step % self._every_n_steps == 0:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(gradients))
            # Lightning's own log would repeat the last value in the steps between.
            for logger in trainer.loggers:
                logger.log_metrics({"gradient_norm": norm}, step=trainer.global_step)


class LossHistory(Callback):
    """Keeps the losses of every epoch and step as plain numbers, those before a resumed checkpoint included.

    Attributes:
        rows: (epoch, steps so far, metric values) in order.
        steps: the training loss by step.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, dict[str, float]]] = []
        self.steps = StepLosses()
        self._mean: Callable[[Tensor], Tensor] = lambda own: own

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn how a mean over the processes is made."""
        del pl_module
        self._mean = partial(trainer.strategy.reduce, reduce_op="mean")

    def state_dict(self) -> dict[str, Any]:
        """Keep the rows, for resuming; all processes do it together."""
        self.steps.fetch(self._mean)
        return {"rows": self.rows, "steps": self.steps.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where a checkpoint stopped; one without steps has none."""
        self.rows = list(state_dict["rows"])
        self.steps = StepLosses(state_dict.get("steps", ()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Keep the batch's loss where it is; no value is read from the device."""
        del pl_module, batch, batch_idx
        if isinstance(outputs, Mapping):
            self.steps.add(trainer.global_step, outputs[MAIN])

    def held_out(self, loss_name: str) -> dict[int, float]:
        """Give the held-out loss by epoch."""
        key = f"{loss_name}_val_loss"
        return {epoch: values[key] for epoch, _, values in self.rows if key in values}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take down the epoch's metrics and the losses of its steps."""
        del pl_module
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.endswith("_loss")}
        self.rows.append((trainer.current_epoch, trainer.global_step, values))
        self.steps.fetch(self._mean)
