"""What an unfinished pretraining needs to go on, as one safetensors file: nothing in it can be executed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import cattrs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ptycho_adapters.atomic import write_bytes
from ptycho_adapters.pretraining.settings import Settings
from ptycho_core.errors import ConfigError, Problem, raise_if_any
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

_KEY = "pretraining"


@attrs.frozen(kw_only=True)
class Progress:
    """How far a pretraining has come.

    Attributes:
        settings: of the whole run.
        step: how many steps are done; draws and photons of a step follow from it and the seed.
        operations: counted so far.
        seconds: that it has run.
        per_pixel: what has been found out about the operations of a step.
        version: of this package.
    """

    settings: Settings
    step: int = 0
    operations: int = 0
    seconds: float = 0.0
    per_pixel: dict[int, float] = attrs.field(factory=dict)
    version: str = VERSION


@attrs.frozen(kw_only=True, eq=False)
class Checkpoint:
    """A pretraining between two steps.

    Attributes:
        progress: how far it has come.
        tensors: float32 weights, the state of both optimizers, and the errors since the last report, by name.
    """

    progress: Progress
    tensors: dict[str, Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        OSError: from the file system.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    write_bytes(path, save(tensors, metadata={_KEY: json.dumps(cattrs.unstructure(checkpoint.progress))}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ConfigError: there is no such file, it is not a pretraining's, or another version of this package wrote it.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
            progress = cattrs.structure(json.loads((file.metadata() or {})[_KEY]), Progress)
    except (OSError, SafetensorError, KeyError, ValueError, cattrs.BaseValidationError) as error:
        problem = Problem(path="resume", expected="a checkpoint of a pretraining", found=f"{path}: {error}")
        raise ConfigError("pretraining", [problem]) from error
    if progress.version != VERSION:
        expected, found = f"a checkpoint of version {VERSION}", f"{path}: of version {progress.version}"
        raise ConfigError("pretraining", [Problem(path="resume", expected=expected, found=found)])
    return Checkpoint(progress=progress, tensors=tensors)


def check_unchanged(settings: Settings, checkpoint: Checkpoint) -> None:
    """Refuse to go on under other settings than before.

    Raises:
        ConfigError: each setting that differs.
    """
    before, now = (attrs.asdict(each) for each in (checkpoint.progress.settings, settings))
    raise_if_any(
        ConfigError,
        "pretraining: a run goes on as it began",
        [
            Problem(path=name, expected=f"{before[name]!r}, as in the checkpoint", found=repr(now[name]))
            for name in before
            if before[name] != now[name]
        ],
    )
