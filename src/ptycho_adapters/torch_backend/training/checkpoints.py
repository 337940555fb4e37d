"""Checkpoints: what ranks them, where they lie, how a run ends early, and how it is taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from ptycho_adapters.common.checkpoint_files import (
    AUTO,
    DamagedCheckpointError,
    check_epochs,
    last_checkpoint,
    newest_whole,
)
from ptycho_adapters.common.identity import check_identity
from ptycho_adapters.common.model import Selection
from ptycho_adapters.common.monitoring import check_kept, explains_better, watched_loss
from ptycho_adapters.torch_backend.training.checkpoint_io import read_checkpoint
from ptycho_core.callers import warn_caller
from ptycho_core.config.main_term import main_term_name
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import Callback, Trainer

    from ptycho_adapters.torch_backend.training.held_out import Start
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config.payload import TrainingPayload

TOLD = "ptycho_core"
"""Where a checkpoint tells of the training that it is of, and how far the epoch is."""

_LISTED_WEIGHTS = 5
_PROBES = "illumination."


def checkpoint_callbacks(payload: TrainingPayload, *, validates: bool) -> list[Callback]:
    """Build what writes checkpoints and what stops a run without progress.

    Raises:
        ConfigError: the metric to watch does not exist.
    """
    execution = payload.execution_config
    name = main_term_name(payload)
    kind = {"train": "train", "held out": "val"}[watched_loss(execution, name, validates=validates)]
    metric = f"{name}_{kind}_loss"
    stopping = EarlyStopping(
        monitor=metric,
        mode=execution.checkpoint_mode,
        patience=execution.early_stop_patience,
        check_on_train_epoch_end=True,
    )
    if not execution.enable_checkpointing:
        return [stopping]
    # At the end of the epoch everything that a resumed run needs is known, the epoch's own losses included.
    writing = ModelCheckpoint(
        dirpath=last_checkpoint(payload).parent,
        filename=f"{{epoch}}-{{{metric}:.4f}}",
        monitor=metric,
        mode=execution.checkpoint_mode,
        save_top_k=execution.checkpoint_save_top_k,
        save_last=True,
        save_on_train_epoch_end=True,
        # A later run into the folder writes over the checkpoints of an earlier one, not beside them.
        enable_version_counter=False,
    )
    return [stopping, writing]


def keep_best(trainer: Trainer, module: PtychoModule, start: Start, losses: Mapping[int, float]) -> Selection | None:
    """Keep the start of a training or its end, whichever explains better what is held out; of two equals the start.

    The end is the best checkpoint, if there are checkpoints and it is better than the last epoch; a loss that is no
    number is worse than any.

    Args:
        trainer: of the finished run.
        module: with the weights of the last step; it is given those that are kept.
        start: what the run started from.
        losses: held-out loss by epoch.

    Returns:
        What was kept and why; None where nothing was held out.

    Raises:
        NotFiniteError: neither has a finite loss.
    """
    if start.loss is None or not losses:
        return None
    epoch = max(losses)
    best = _better_checkpoint(trainer)
    if best is not None:
        module.load_state_dict(best["state_dict"])
        epoch = int(best["epoch"])
    end_loss = losses.get(epoch)
    if end_loss is not None:
        check_kept(start.loss, end_loss)
    if start.is_kept(end_loss):
        module.load_state_dict(start.state)
    return Selection(
        start_loss=start.loss,
        end_loss=start.loss if end_loss is None else end_loss,
        epoch=None if start.is_kept(end_loss) else epoch,
    )


def _better_checkpoint(trainer: Trainer) -> dict[str, Any] | None:
    """Read the best checkpoint if it is better than the last epoch, by the metric that ranks checkpoints.

    Warns:
        UserWarning: it is damaged, and cannot be what the training ends with.
    """
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, ModelCheckpoint) or not checkpoint.best_model_path or not trainer.val_dataloaders:
        return None
    last = trainer.callback_metrics.get(str(checkpoint.monitor))
    best = checkpoint.best_model_score
    if last is None or best is None:
        return None
    sign = 1.0 if checkpoint.mode == "min" else -1.0
    if not explains_better(float(best), float(last), sign=sign):
        return None
    try:
        return read_checkpoint(Path(checkpoint.best_model_path))
    except DamagedCheckpointError as error:
        warn_caller(f"{error.problems[0].found}: the last epoch is kept instead of the best one", UserWarning)
        return None


@attrs.frozen(kw_only=True)
class Resumed:
    """The checkpoint that a run is taken up from.

    Attributes:
        path: of the file.
        batches: that the epoch which was going on has behind it; 0 where an epoch had ended.
    """

    path: Path
    batches: int


def resumed(payload: TrainingPayload, module: PtychoModule, identity: Mapping[str, str]) -> Resumed | None:
    """Find the checkpoint that a run is to be taken up from, and look into it; nothing in it is executed.

    Args:
        payload: names the checkpoint, or leaves it to the folder.
        module: what it is to be loaded into.
        identity: of the training.

    Returns:
        The checkpoint; None for a run from the beginning.

    Raises:
        ConfigError: the file is missing, is damaged or no checkpoint, is of another number of scans, has more epochs
            behind it than the run is to have, holds other weights than the module, or was found in the folder and is
            of another training.
    """
    asked = payload.execution_config.resume
    if asked is None:
        return None
    if asked != AUTO:
        path, content = asked, read_checkpoint(asked)
    else:
        found = newest_whole(payload, lambda path: (path, read_checkpoint(path)))
        if found is None:
            return None
        path, content = found
    told = content.get(TOLD, {})
    if asked == AUTO:
        check_identity(path, told.get("identity", {}), identity)
    batches = int(told.get("batches", 0))
    # The epoch is counted from 0: at its end it is done, within it it is not.
    check_epochs(path, int(content.get("epoch", -1)) + (0 if batches else 1), payload.pt_training_config.epochs)
    _check_weights(path, content["state_dict"], module)
    return Resumed(path=path, batches=batches)


def _check_weights(path: Path, stored: Mapping[str, Any], module: PtychoModule) -> None:
    held = sum(name.startswith(_PROBES) and name.endswith(".pixels") for name in stored)
    if held not in (0, len(module.probes)):
        scans = len(module.probes)
        expected, found = f"a checkpoint of a training on {scans} scan{'s' * (scans > 1)}", f"{path}: one on {held}"
        raise ConfigError("training", [Problem(path="resume", expected=expected, found=found)])
    shapes = {name: tuple(value.shape) for name, value in stored.items()}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    differing = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
    raise_if_any(
        ConfigError,
        f"training: {path} does not fit the settings",
        [
            Problem(path=f"resume.{name}", expected=str(wanted.get(name)), found=str(shapes.get(name)))
            for name in differing[:_LISTED_WEIGHTS]
        ],
    )
