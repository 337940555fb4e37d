"""A training's progress in the client's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning import Callback

if TYPE_CHECKING:
    import logging

    from lightning import LightningModule, Trainer


class EpochLog(Callback):
    """Says the losses of each epoch.

    Args:
        log: where.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say them."""
        del pl_module
        losses = [f"{name} {float(value):.5g}" for name, value in trainer.callback_metrics.items() if "loss" in name]
        self._log.info("epoch %d of %s: %s", trainer.current_epoch + 1, trainer.max_epochs, ", ".join(losses))
