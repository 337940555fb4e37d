"""Where the checkpoints of a training lie, and which one a run goes on from, whichever backend writes them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final, TypeVar

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.partials import remove_abandoned
from ptycho_core.callers import warn_caller
from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.config.shared import Backend

CHECKPOINT_FOLDER, LAST, BEFORE_LAST = "checkpoints", "last.ckpt", "before-last.ckpt"
AUTO: Final = "auto"
DAMAGED_SUFFIX = ".damaged"

Read = TypeVar("Read")


class DamagedCheckpointError(ConfigError):
    """A checkpoint that is missing, damaged or none at all."""


def last_checkpoint(payload: TrainingPayload) -> Path:
    """Return the file of a training's last checkpoint."""
    return payload.pt_training_config.output_dir / CHECKPOINT_FOLDER / LAST


def checkpoints_of(payload: TrainingPayload) -> list[Path]:
    """Return the checkpoints in a training's folder, the newest one first."""
    found = last_checkpoint(payload).parent.glob("*.ckpt")
    # Where the clock of the disk is coarse, the last one is the last.
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name == LAST), reverse=True)


def newest_whole(payload: TrainingPayload, read: Callable[[Path], Read]) -> Read | None:
    """Read the newest checkpoint of a training's folder that can be read. What was half written there is removed.

    Args:
        payload: says which folder.
        read: reads one, or raises a `DamagedCheckpointError`.

    Returns:
        What it read; None where there is no checkpoint that is whole.

    Warns:
        UserWarning: of each one that is damaged, which gets another name, and of what is taken instead.
    """
    remove_abandoned(last_checkpoint(payload).parent)
    found = checkpoints_of(payload)
    for path, following in zip(found, [*found, None][1:], strict=True):
        try:
            return read(path)
        except DamagedCheckpointError as error:
            reason = " ".join(error.problems[0].found.split())
            instead = "the training starts from the beginning" if following is None else f"going on from {following}"
            # Under its name it would become the one before the next one.
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
            warn_caller(f"{reason}: it is now {path.name}{DAMAGED_SUFFIX}; {instead}", UserWarning)
    return None


def unreadable(path: Path, reason: object, backend: Backend) -> ConfigError:
    """Give the error for a checkpoint that a backend cannot read: one of another backend is not damaged."""
    expected, own = f"a checkpoint that a training with backend {backend} wrote", _written_by(path)
    if own not in {None, backend}:
        problem = Problem(path="resume", expected=expected, found=f"{path}: one of backend {own}")
        return ConfigError("training", [problem])
    fix = "--resume auto takes the newest whole checkpoint of the output folder"
    problem = Problem(path="resume", expected=expected, found=f"{path}: {reason}", fix=fix)
    return DamagedCheckpointError("training", [problem])


def _written_by(path: Path) -> Backend | None:
    """Tell by its first bytes which backend wrote a checkpoint; None if neither."""
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError:
        return None
    if start.startswith(b"PK"):  # a zip archive
        return "pytorch"
    return "tensorflow" if start[8:] == b"{" else None  # a safetensors file: eight bytes, and JSON


def keep_as_before_last(last: Path) -> None:
    """Keep the last checkpoint as the one before it, until the next one is written; it keeps its own name too.

    Raises:
        OSError: from the file system.
    """
    if not last.is_file():
        return
    with atomic_path(last.with_name(BEFORE_LAST)) as partial:
        try:
            os.link(last, partial)
        except OSError:  # a file system without links
            shutil.copyfile(last, partial)


def forget_last(payload: TrainingPayload) -> None:
    """Remove the last checkpoints of an earlier run into the folder, before a run that starts from the beginning.

    Raises:
        OSError: from the file system.
    """
    last = last_checkpoint(payload)
    for path in (last, last.with_name(BEFORE_LAST)):
        path.unlink(missing_ok=True)


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
