"""Checkpoints as files: written whole or not at all, held against their checksums before anything in them is used."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.common.checkpoint_files import LAST, keep_as_before_last, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

# zipfile and torch report damage in many ways.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    OSError,
)


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints. The one before the last one is kept.

    A file is the zip archive that torch makes, which has a checksum of each of its members.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint atomically.

        Raises:
            OSError: from the file system; older checkpoints are then as they were.
        """
        del storage_options
        target, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as partial:
            partial.write_bytes(content.getbuffer())
            if target.name == LAST:
                keep_as_before_last(target)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., object] | None = None,
        weights_only: bool | None = None,  # noqa: FBT001 - Lightning's own signature
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU; nothing in it is executed.

        Raises:
            DamagedCheckpointError: there is none, or it is damaged.
        """
        del map_location, weights_only
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU, after it was held against its checksums; nothing in it is executed.

    Raises:
        DamagedCheckpointError: there is none, it is damaged, or it is no checkpoint.
        ConfigError: another backend wrote it.
    """
    wrong, content = None, None
    try:
        with zipfile.ZipFile(path) as members:
            wrong = members.testzip()
        if wrong is None:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise unreadable(path, "no such file", "pytorch") from error
    except _DAMAGE as error:
        raise unreadable(path, error, "pytorch") from error
    if wrong is not None:
        raise unreadable(path, f"damaged: {wrong} does not match its checksum", "pytorch")
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise unreadable(path, "something else", "pytorch")
    return content
