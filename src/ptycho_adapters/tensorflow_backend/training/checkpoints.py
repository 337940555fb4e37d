"""Checkpoints: safetensors files with what a training needs to go on; nothing in them can be executed.

They lie where those of the torch backend lie and bear the same names.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import cattrs
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from ptycho_adapters.atomic import atomic_path, write_bytes
from ptycho_adapters.common.checkpoint_files import (
    AUTO,
    DamagedCheckpointError,
    check_epochs,
    keep_as_before_last,
    last_checkpoint,
    newest_whole,
    unreadable,
)
from ptycho_adapters.common.course import Memory
from ptycho_adapters.common.identity import check_identity
from ptycho_adapters.common.monitoring import explains_better
from ptycho_core.callers import warn_caller
from ptycho_core.config.main_term import main_term_name
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_adapters.common.course import Course
    from ptycho_core.config.payload import TrainingPayload

Arrays = dict[str, NDArray[Any]]
WEIGHTS = "generator."
_KEY, _CHECKSUM = "training", "crc32"
_LISTED_ARRAYS = 5


@attrs.frozen(kw_only=True)
class Ranked:
    """A checkpoint among the best ones.

    Attributes:
        name: of its file, which lies beside the last one.
        loss: that ranks it.
        epoch: counted from 0.
    """

    name: str
    loss: float
    epoch: int


@attrs.frozen(kw_only=True)
class _Progress:
    memory: Memory
    best: tuple[Ranked, ...]
    identity: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Checkpoint:
    """A training after a step.

    Attributes:
        path: of the file.
        memory: all but the arrays.
        best: checkpoints that were among the best ones then.
        arrays: weights, in torch's layout behind `generator.`, and the state of the optimiser, by name.
        identity: of the training.
    """

    path: Path
    memory: Memory
    best: tuple[Ranked, ...]
    arrays: Arrays
    identity: dict[str, str]


class Checkpoints:
    """Writes the last checkpoint of a training, and the best ones by its watched loss.

    Args:
        payload: says where and how many.
        course: of the training.
        identity: the same.
    """

    def __init__(self, payload: TrainingPayload, course: Course, identity: Mapping[str, str]) -> None:
        execution, self._identity = payload.execution_config, dict(identity)
        self._last, self._course = last_checkpoint(payload), course
        self._writes, self._most = execution.enable_checkpointing, execution.checkpoint_save_top_k
        self._sign = 1.0 if execution.checkpoint_mode == "min" else -1.0
        self._figure = f"{main_term_name(payload)}_{course.watched_name}"
        self._places: dict[Ranked, Path] = {}

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Know the best checkpoints of the run that is gone on with; they stay where they are.

        Warns:
            UserWarning: one of them is not beside the checkpoint any more, and cannot be what the training ends with.
        """
        for each in checkpoint.best:
            place = checkpoint.path.with_name(each.name)
            if place.is_file():
                self._places[each] = place
            else:
                warn_caller(f"{place}, among the best of the run so far, is not there: it cannot be kept", UserWarning)

    def write(self, arrays: Arrays) -> None:
        """Write what the training has come to, if checkpoints are wanted; what is no longer among the best goes.

        Raises:
            OSError: from the file system; older checkpoints are then as they were.
        """
        if not self._writes:
            return
        self._last.parent.mkdir(parents=True, exist_ok=True)
        loss, epoch = self._course.watched_loss, self._course.history[-1].epoch
        new = Ranked(name=f"epoch={epoch}-{self._figure}={loss:.4f}.ckpt", loss=loss, epoch=epoch)
        kept = self._best_of(*self._places, new)
        content = self._content(arrays, kept)
        if new in kept:
            self._places[new] = self._last.with_name(new.name)
            write_bytes(self._places[new], content)
        self._write_last(content)
        for each in [each for each in self._places if each not in kept]:
            place = self._places.pop(each)
            if place.parent.resolve() == self._last.parent.resolve():
                place.unlink(missing_ok=True)

    def write_within(self, arrays: Arrays) -> None:
        """Write the last checkpoint anew between the steps of an epoch, if checkpoints are wanted.

        Raises:
            OSError: from the file system; older checkpoints are then as they were.
        """
        if self._writes:
            self._last.parent.mkdir(parents=True, exist_ok=True)
            self._write_last(self._content(arrays, self._best_of(*self._places)))

    def _content(self, arrays: Arrays, best: tuple[Ranked, ...]) -> bytes:
        progress = _Progress(memory=self._course.remembered(), best=best, identity=self._identity)
        text = json.dumps(cattrs.unstructure(progress))
        return safetensors_numpy.save(arrays, metadata={_KEY: text, _CHECKSUM: _checksum(text, arrays)})

    def _write_last(self, content: bytes) -> None:
        with atomic_path(self._last) as partial:
            partial.write_bytes(content)
            keep_as_before_last(self._last)

    def better_than_last(self) -> tuple[Arrays, int] | None:
        """Give weights and epoch of the best checkpoint, if it is better than the last epoch; else None.

        Warns:
            UserWarning: its file is damaged, and cannot be what the training ends with.
        """
        best = min(self._places, key=self._rank, default=None)
        if best is None or not explains_better(best.loss, self._course.watched_loss, sign=self._sign):
            return None
        try:
            return weights_in(read_checkpoint(self._places[best]).arrays), best.epoch
        except DamagedCheckpointError as error:
            warn_caller(f"{error.problems[0].found}: the last epoch is kept instead of the best one", UserWarning)
            return None

    def _best_of(self, *ranked: Ranked) -> tuple[Ranked, ...]:
        in_order = sorted(ranked, key=self._rank)
        return tuple(in_order if self._most < 0 else in_order[: self._most])

    def _rank(self, each: Ranked) -> tuple[bool, float]:
        return math.isnan(each.loss), self._sign * each.loss  # what is no number comes last


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, and hold it against its checksum.

    Raises:
        DamagedCheckpointError: there is no such file, it is damaged, or it is no checkpoint.
        ConfigError: another backend wrote it.
    """
    try:
        with safe_open(str(path), framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
            metadata = file.metadata() or {}
        text = metadata[_KEY]
        if metadata[_CHECKSUM] != _checksum(text, arrays):
            raise unreadable(path, "damaged: it does not match its checksum", "tensorflow")
        progress = cattrs.structure(json.loads(text), _Progress)
    except ConfigError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, cattrs.BaseValidationError) as error:
        raise unreadable(path, error, "tensorflow") from error
    return Checkpoint(path=path, memory=progress.memory, best=progress.best, arrays=arrays, identity=progress.identity)


def _checksum(text: str, arrays: Arrays) -> str:
    value = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        value = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), value)
        value = zlib.crc32(array.tobytes(), value)
    return f"{value:08x}"


def resumable(
    payload: TrainingPayload, wanted: Mapping[str, NDArray[Any]], identity: Mapping[str, str]
) -> Checkpoint | None:
    """Read the checkpoint that a run is to be taken up from; None for a run from the beginning.

    Args:
        payload: names the checkpoint, or leaves it to the folder.
        wanted: arrays that the run has, by name.
        identity: of the training.

    Raises:
        ConfigError: the file is missing, is damaged or no checkpoint, has more epochs behind it than the run is to
            have, holds other weights than the run or those of another optimiser, or was found in the folder and is of
            another training.
    """
    asked = payload.execution_config.resume
    if asked is None:
        return None
    found = newest_whole(payload, read_checkpoint) if asked == AUTO else read_checkpoint(asked)
    if found is None:
        return None
    if asked == AUTO:
        check_identity(found.path, found.identity, identity)
    check_epochs(found.path, len(found.memory.history), payload.pt_training_config.epochs)
    has, wants = ({name: tuple(value.shape) for name, value in each.items()} for each in (found.arrays, wanted))
    differing = sorted(name for name in wants.keys() | has.keys() if wants.get(name) != has.get(name))
    raise_if_any(
        ConfigError,
        f"training: {found.path} does not fit the settings",
        [
            Problem(path=f"resume.{name}", expected=str(wants.get(name)), found=str(has.get(name)))
            for name in differing[:_LISTED_ARRAYS]
        ],
    )
    return found


def weights_in(arrays: Arrays) -> Arrays:
    """Return the weights among the arrays of a checkpoint, by their names in torch."""
    return {name.removeprefix(WEIGHTS): value for name, value in arrays.items() if name.startswith(WEIGHTS)}
