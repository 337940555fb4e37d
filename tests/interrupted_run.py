"""A script that trains on some devices and is killed within the second epoch, or goes on from where it was.

As `shared_run`, of which the rest is, it computes in double precision.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from ptycho_adapters.crew import crew_of
from ptycho_adapters.torch_backend import train
from ptycho_adapters.torch_backend.training import within_epochs
from ptycho_core.config import PyTorchExecutionConfig
from ptycho_core.config.payload import ScanFacts, resolve_training
from shared_run import QUIET, SETTINGS, Double, scan

LAST_STEP = 4  # of six, three in an epoch


class Watcher(Callback):
    """Counts steps, and kills the process before one."""

    def __init__(self, *, kills: bool) -> None:
        self.steps, self._kills = 0, kills

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Go without a word, as a machine that goes down does."""
        del pl_module, batch, batch_idx
        self.steps += 1
        if self._kills and trainer.global_step == LAST_STEP:
            os.kill(os.getpid(), signal.SIGKILL)


def trained(devices: int, folder: Path, *, resume: bool = False, killed: bool = False) -> dict[str, torch.Tensor]:
    """Weights and losses of two epochs on one scan, and how many steps were made here."""
    watcher = Watcher(kills=killed)
    often = {**QUIET, "enable_checkpointing": True, "checkpoint_every_s": 0.0, "resume": "auto" if resume else None}
    execution = PyTorchExecutionConfig(**often, devices=devices)  # type: ignore[arg-type]
    settings = {**SETTINGS, "epochs": 2, "batch_size": 2}
    payload = resolve_training(ScanFacts(path=Path("scan.npz"), N=64), settings, execution, output_dir=folder)
    with Double():
        model = train(payload, scan(0), callbacks=[watcher])
    losses = [loss for each in model.history for loss in (each.train, each.validation or 0.0)]
    by_step = [loss for each in model.step_losses for loss in (float(each.step), each.train)]
    return {
        **{name: value.clone() for name, value in model.generator.state_dict().items()},
        "losses": torch.tensor(losses, dtype=torch.float64),
        "made": torch.tensor(watcher.steps),
        "steps": torch.tensor(by_step, dtype=torch.float64),
    }


if __name__ == "__main__":
    own, target, killed = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "killed"
    within_epochs.STEPS_BETWEEN_LOOKS = 1
    found = trained(own, target, resume=not killed, killed=killed)
    torch.save(found, target / f"outcome_{crew_of(own).rank}.pt")
