"""Whether a result is there already: complete, of the same file, under the same settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.archive_facts import find_archive
from ptycho_core.config.bridge import settings_of
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_adapters.command_line.run_request import RunRequest
    from ptycho_core.config.payload import InferencePayload

_WITHOUT_SAY = frozenset({"output_dir", "test_data_file", "model_path", "enable_progress_bar"})
_NO_OPTIONS = frozenset(
    {
        *("scans", "config", "print_config", "json", "quiet", "again", "traceback", "log_level", "log_file", "profile"),
        *("part", "scheduler"),
    }
)


def made_from(
    command: str, typed: Mapping[str, object], request: RunRequest, payload: InferencePayload
) -> dict[str, object]:
    """Return all that a result hangs on: files by size and time of their last change, settings, flags and version.

    Args:
        command: that makes it.
        typed: the command line; what in it is no setting, such as the domain or a mask, has a say too.
        request: what was asked for, of one scan.
        payload: its settings.
    """
    from ptycho_adapters.report.reporting import settings_as_text  # noqa: PLC0415 - markupsafe

    options = {
        name: str(value)
        for name, value in sorted(typed.items())
        if " " not in name and name not in _NO_OPTIONS and value is not None
    }
    named = {name: Path(text) for name, text in options.items()}
    model = request.path("model_path")
    files = {"scan": request.required_path("test_data_file"), **named}
    if model is not None:
        files["model"] = find_archive(model)
    values = settings_as_text(settings_of(*payload.records))
    return {
        "command": command,
        "code_version": VERSION,
        "files": {name: _identity(path) for name, path in files.items() if _is_there(path)},
        "options": options,
        "settings": {key: value for key, value in sorted(values.items()) if key not in _WITHOUT_SAY},
    }


def is_there(folder: Path, wanted: Mapping[str, object]) -> bool:
    """Tell whether a folder holds a complete result that was made from the same.

    Args:
        folder: of the result.
        wanted: what `made_from` says.
    """
    from ptycho_adapters.report.results import RESULT_NAMES  # noqa: PLC0415 - h5py and matplotlib
    from ptycho_adapters.report.summary import MADE_FROM  # noqa: PLC0415

    if not all((folder / name).is_file() for name in RESULT_NAMES):
        return False
    summary = summary_in(folder)
    return MADE_FROM in summary and summary[MADE_FROM] == json.loads(json.dumps(wanted))


def summary_in(folder: Path) -> dict[str, object]:
    """Return the summary of a result; empty where it cannot be read."""
    from ptycho_adapters.report.results import SUMMARY_NAME  # noqa: PLC0415 - as above

    try:
        content = json.loads((folder / SUMMARY_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # what is no path, such as a long list of words
        return False


def _identity(path: Path) -> list[object]:
    """Name a file by place, size and last change; a folder by those of the files in it."""
    files = [child for child in path.iterdir() if child.is_file()] if path.is_dir() else [path]
    known = [file.stat() for file in files]
    newest = max((each.st_mtime_ns for each in known), default=0)
    return [str(path.resolve()), len(known), sum(each.st_size for each in known), newest]
