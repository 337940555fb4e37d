"""Where the checkpoints of a training lie, whichever backend writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.config.payload import TrainingPayload

CHECKPOINT_FOLDER, LAST = "checkpoints", "last.ckpt"


def last_checkpoint(payload: TrainingPayload) -> Path:
    """Return the file of a training's last checkpoint."""
    return payload.pt_training_config.output_dir / CHECKPOINT_FOLDER / LAST


def forget_last(payload: TrainingPayload) -> None:
    """Remove the last checkpoint of an earlier run into the folder, which a run that writes none would leave there.

    Raises:
        OSError: from the file system.
    """
    execution = payload.execution_config
    if not execution.enable_checkpointing and execution.resume is None:
        last_checkpoint(payload).unlink(missing_ok=True)


def check_epochs(path: Path, done: int, epochs: int) -> None:
    """Refuse to take up a training that has more epochs behind it than it is to have.

    Args:
        path: the checkpoint.
        done: epochs that it has behind it.
        epochs: that the run is to have in all.

    Raises:
        ConfigError: it has more.
    """
    if done > epochs:
        expected, found = f"at least the {done} that {path} has behind it", f"{epochs}"
        raise ConfigError("training", [Problem(path="epochs", expected=expected, found=found)])
