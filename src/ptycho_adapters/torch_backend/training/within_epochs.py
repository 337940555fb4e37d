"""What lets a training stop within an epoch and go on there: checkpoints between the steps, and the epoch's loss."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from ptycho_adapters.common.checkpoint_files import last_checkpoint
from ptycho_adapters.common.schedule import Clock
from ptycho_adapters.common.stopping import StopRequest
from ptycho_adapters.torch_backend.training.checkpoints import TOLD
from ptycho_adapters.torch_backend.training.module import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning import LightningModule, Trainer

    from ptycho_adapters.torch_backend.data.groups import GroupBatch
    from ptycho_core.config.payload import TrainingPayload


STEPS_BETWEEN_LOOKS = 8
"""At the clock, of several processes: to agree costs each of them a message."""


class EpochLoss(Callback):
    """Logs the mean training loss of an epoch, over all of its batches: those before a checkpoint within it too.

    Args:
        name: that it is logged under.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sum: Tensor | float = 0.0
        self._groups = 0
        self._mean: Callable[[Tensor], Tensor] = lambda own: own

    def state_dict(self) -> dict[str, Any]:
        """Keep what the batches so far came to, in all processes: each of them takes the mean up, and has it again."""
        own = self._sum
        return {"sum": float(self._mean(own.clone()) if isinstance(own, Tensor) else own), "groups": self._groups}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn how a mean over the processes is made."""
        del pl_module
        self._mean = partial(trainer.strategy.reduce, reduce_op="mean")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where a checkpoint stopped."""
        self._sum, self._groups = float(state_dict["sum"]), int(state_dict["groups"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Add the loss of a batch where it is; no value is read from the device."""
        del trainer, pl_module, batch_idx
        if isinstance(outputs, Mapping):
            self._sum = outputs[MAIN] * batch.whole + self._sum
            self._groups += batch.whole

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the mean over all processes, and begin anew."""
        del trainer
        if self._groups:
            pl_module.log(self._name, self._sum / self._groups, sync_dist=True)
        self._sum, self._groups = 0.0, 0


class StepCheckpoints(Checkpoint):
    """Writes the last checkpoint anew between the steps of an epoch, when some time has passed or a stop is asked for.

    Of several processes that train together the first one's clock counts, at which all look every few steps. They
    leave signals to Lightning.

    Args:
        payload: says where and how often.
        identity: of the training, for its checkpoints.
        now: seconds of any clock that never goes back.

    Attributes:
        identity: the same.
        stop: whether a stop was asked for.
    """

    def __init__(self, payload: TrainingPayload, identity: Mapping[str, str], now: Callable[[], float]) -> None:
        self._last, self._every_s = last_checkpoint(payload), payload.execution_config.checkpoint_every_s
        self.identity, self._clock = dict(identity), Clock(now)
        self._batches, self._step = 0, 0
        self.stop = StopRequest()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell in every checkpoint what it is of, and how far the epoch is."""
        del trainer, pl_module
        checkpoint[TOLD] = {"identity": self.identity, "batches": self._batches}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here, and listen to signals."""
        del pl_module
        self._step = trainer.global_step
        self._clock.set(0.0)
        if trainer.world_size == 1:
            self.stop.listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Write a checkpoint if one is due. The last batch of an epoch is followed by its end, which has its own."""
        del pl_module, outputs, batch
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        # Gradients that wait for more batches are in no checkpoint.
        if not stepped or trainer.is_last_batch or trainer.should_stop:
            return
        if self._is_due(trainer) or self.stop.asked:
            self._batches = batch_idx + 1
            trainer.save_checkpoint(self._last)
            self._batches = 0
            self._clock.set(0.0)
        self._end_if_asked()

    def _is_due(self, trainer: Trainer) -> bool:
        if self._every_s is None or (trainer.world_size > 1 and trainer.global_step % STEPS_BETWEEN_LOOKS):
            return False
        return bool(trainer.strategy.broadcast(self._clock.elapsed_s >= self._every_s))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here; the checkpoint of the epoch has been written."""
        del trainer, pl_module
        self._clock.set(0.0)
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self.stop.asked:
            raise SIGTERMException(128 + signal.SIGTERM)
