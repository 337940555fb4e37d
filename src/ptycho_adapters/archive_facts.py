"""What a model archive says about itself, read without torch: where it lies and how its model was trained."""

from __future__ import annotations

import json
import zipfile
import zlib
from typing import TYPE_CHECKING

from ptycho_adapters.legacy_archives import (
    LEGACY_NOTICE,
    is_legacy_archive,
    legacy_payload,
    read_legacy_archive,
)
from ptycho_adapters.notices import notice
from ptycho_core.callers import warn_caller
from ptycho_core.config.payload_json import read_payload
from ptycho_core.config.types import shown
from ptycho_core.errors import ArchiveError, ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.config.shared import Backend

ARCHIVE_NAME = "wts.h5.zip"
_TRAIN = f"ptycho train --train-data-file SCAN --output-dir FOLDER --n-groups INTEGER writes {ARCHIVE_NAME} there"
MANIFEST_NAME, CONFIG_NAME = "manifest.json", "config.json"
_SUFFIXES = (".zip", ".ckpt")  # the Ptychodus client knows models by the latter


def archive_file(path: Path) -> Path:
    """File that a path stands for: itself if it is named like an archive, else `wts.h5.zip` in that folder."""
    return path if path.suffix in _SUFFIXES else path / ARCHIVE_NAME


def find_archive(model_path: Path) -> Path:
    """Return the archive that a model path stands for.

    Raises:
        FileNotFoundError: the path does not exist.
        ArchiveError: it is a folder without an archive.
    """
    if not model_path.exists():
        message = f"Model directory not found: {model_path}"
        raise FileNotFoundError(message)
    archive = model_path / ARCHIVE_NAME if model_path.is_dir() else model_path
    if not archive.is_file():
        problem = Problem(path=ARCHIVE_NAME, expected="a model archive", found="none", fix=_TRAIN)
        raise ArchiveError(f"Model archive not found in {model_path}", [problem])
    return archive


def find_model(model_path: Path) -> Path:
    """Return the archive that a model path stands for, if there is a model in it: before a long read of something else.

    Raises:
        FileNotFoundError: the path does not exist.
        ArchiveError: it is a folder without an archive, or the archive is an empty placeholder.
    """
    archive = find_archive(model_path)
    if archive.stat().st_size == 0:
        problem = Problem(path="file", expected="a model archive", found="an empty file", fix=_TRAIN)
        raise ArchiveError(str(archive), [problem])
    return archive


def archive_backend(archive: Path) -> Backend:
    """Return the backend that trained an archive's model.

    It is 'pytorch' where the archive does not say, which its reader then complains of. One of the legacy software is
    torch's to read, whatever wrote it.
    """
    try:
        with zipfile.ZipFile(archive) as stored:
            manifest = json.loads(stored.read(MANIFEST_NAME))
    except (KeyError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
        return "pytorch"
    return "tensorflow" if isinstance(manifest, dict) and manifest.get("backend") == "tensorflow" else "pytorch"


def payload_of(archive: Path, text: str) -> TrainingPayload:
    """Return how an archive's model was trained; what its format did not have yet is said once.

    Args:
        archive: the file.
        text: of its configuration.

    Raises:
        ConfigError: it cannot be read.
    """
    read = read_payload(text)
    if read.added:
        values = ", ".join(f"{key}={shown(value)}" for key, value in sorted(read.added.items()))
        notice(
            f"{archive}: written in format {read.format_version}, before some settings were there; taken as it was "
            f"then: {values}",
            str(archive.resolve()),
            str(archive.stat().st_mtime_ns),
        )
    return read.payload


def read_archive_config(archive: Path) -> TrainingPayload | None:
    """Return how an archive's model was trained; None, with a warning, for an empty placeholder.

    Of an archive of the legacy software, what describes its model.

    Raises:
        ArchiveError: the archive is not a zip file, has no configuration, or has one that cannot be read.

    Warns:
        UserWarning: the archive is empty, or one of the legacy software.
    """
    if archive.stat().st_size == 0:
        warn_caller(f"{archive} is empty: taking the facts of the scan instead", UserWarning)
        return None
    if is_legacy_archive(archive):
        warn_caller(f"{archive} {LEGACY_NOTICE}", UserWarning)
        return legacy_payload(read_legacy_archive(archive), archive.name)
    try:
        with zipfile.ZipFile(archive) as stored:
            text = stored.read(CONFIG_NAME).decode()
        return payload_of(archive, text)
    except KeyError as error:
        problem = Problem(path=CONFIG_NAME, expected="the model's configuration", found="no such member")
        raise ArchiveError(str(archive), [problem]) from error
    except ConfigError as error:
        raise ArchiveError(f"{archive} ({CONFIG_NAME})", error.problems) from error
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, EOFError, OSError, NotImplementedError) as error:
        problem = Problem(path="file", expected="a model archive", found=str(error))
        raise ArchiveError(str(archive), [problem]) from error
