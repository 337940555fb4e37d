"""Models as the client keeps them: an archive, a folder with one, or an archive's contents in a folder.

The client copies a model's archive under a name of its own, `model.zip` or `model.ckpt`, and unpacks what ends in
`.zip` before it asks for it. A file of `write_shipped_model` holds no weights and stands for those in the package.
"""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from ptycho_adapters.archive_facts import ARCHIVE_NAME, CONFIG_NAME, read_archive_config
from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.ptychodus.backend import Backend
from ptycho_core.config.payload import TrainingPayload
from ptycho_core.errors import ArchiveError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_MANIFEST: Final = "manifest.json"
_SHIPPED: Final = "ptycho-core-shipped-weights"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@attrs.frozen(kw_only=True, eq=False)
class ClientModel:
    """A model that the client has loaded.

    Attributes:
        name: what messages call it.
        payload: how it was trained; None for the weights in the package.
        backend: whose it is.
        trained: the backend's own value; None for the weights in the package, which any scan's size fits.
        refines_probe: whether the probe is refined for an answer, of which the client gets the object alone.
    """

    name: str
    payload: TrainingPayload | None
    backend: Backend
    trained: object | None
    refines_probe: bool = False

    @property
    def keeps_probe(self) -> bool:
        """Whether it was trained with the probe as the client had it."""
        return self.payload is None or not self.payload.tf_training_config.probe_trainable


def write_shipped_model(path: Path, *, refine_probe: bool = False) -> None:
    """Write a file that the client loads as a model and that stands for the weights in the package; atomic.

    Args:
        path: the file.
        refine_probe: refine the client's probe for the sake of the object; the client's product keeps the one it has.
    """
    manifest = json.dumps({"format": _SHIPPED, "format_version": 1, "refine_probe": refine_probe}, indent=2)
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_MANIFEST, _EPOCH), manifest)


@contextmanager
def as_archive(path: Path) -> Iterator[Path]:
    """Lend the archive that a file or folder of the client stands for.

    Args:
        path: an archive under any name; a folder that holds `wts.h5.zip`; or one that holds an archive's contents,
            which are packed again into a folder of the system's.

    Raises:
        FileNotFoundError: there is nothing there.
        ArchiveError: the folder holds neither.
    """
    if path.is_file() or (path / ARCHIVE_NAME).is_file():
        yield path if path.is_file() else path / ARCHIVE_NAME
        return
    if not path.is_dir():
        message = f"Model not found: {path}"
        raise FileNotFoundError(message)
    members = sorted(each for each in path.rglob("*") if each.is_file())
    if not members:
        problem = Problem(path=str(path), expected=f"{ARCHIVE_NAME} or its contents", found="an empty folder")
        raise ArchiveError("model of Ptychodus", [problem])
    with tempfile.TemporaryDirectory(prefix="ptycho-core-model-") as scratch:
        archive = Path(scratch) / ARCHIVE_NAME
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            for each in members:
                packed.write(each, each.relative_to(path).as_posix())
        yield archive


def stored_backend(archive: Path) -> Backend | None:
    """Tell whose model an archive holds; None for a file that stands for the weights in the package.

    Raises:
        ArchiveError: it is no archive.
    """
    manifest = _manifest(archive)
    if manifest.get("format") == _SHIPPED:
        return None
    # Archives of the legacy software have no manifest here and are read by the torch backend.
    return Backend.TENSORFLOW if manifest.get("backend") == Backend.TENSORFLOW else Backend.PYTORCH


def asks_for_a_refined_probe(archive: Path) -> bool:
    """Tell whether a file that stands for the weights in the package was written with `refine_probe`.

    Raises:
        ArchiveError: it is no archive.
    """
    return _manifest(archive).get("refine_probe") is True


def stored_payload(path: Path) -> TrainingPayload | None:
    """Tell how a model was trained, without loading it; None for the weights in the package.

    Raises:
        FileNotFoundError: there is no such model.
        ArchiveError: it cannot be read.
    """
    with as_archive(path) as archive:
        if stored_backend(archive) is None:
            return None
        with warnings.catch_warnings():
            # Whoever loads the model hears of it then.
            warnings.simplefilter("ignore", UserWarning)
            return read_archive_config(archive)


def _manifest(archive: Path) -> dict[str, object]:
    try:
        with zipfile.ZipFile(archive) as stored:
            if _MANIFEST not in stored.namelist():
                return {}
            found = json.loads(stored.read(_MANIFEST))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
        problem = Problem(path="file", expected=f"a model archive with {CONFIG_NAME}", found=str(error))
        raise ArchiveError(str(archive), [problem]) from error
    return found if isinstance(found, dict) else {}
