"""Scans by name or pattern, and the folder of each: settled before any work begins."""

from __future__ import annotations

import glob
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.command_line.scan_input import existing
from ptycho_adapters.command_line.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TABLE_NAMES = ("summary.json", "summary.csv")
"""Files about all of several scans, beside their folders."""


def folders_of(names: Sequence[str], folder: Path) -> dict[Path, Path]:
    """Return the scans that were named, each with the folder of its result.

    A single file has the folder itself; of several, or of a pattern, each has one in it, called as the file without its
    suffix. A file that is named twice counts once.

    Args:
        names: files, folders of frames, or patterns such as `day/*.npz`.
        folder: for everything that is written.

    Raises:
        UsageError: nothing is named, a pattern fits no file, or two results would have the same folder.
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder without frames.
    """
    found = {path.resolve(): path for path in _found(names)}
    if not found:
        raise UsageError("SCAN is required: the scan to reconstruct, several of them, or a pattern in quotes")
    if len(names) == 1 and not _is_pattern(names[0]):
        return dict.fromkeys(found.values(), folder)
    folders = {path: folder / (real.name if real.is_dir() else real.stem) for real, path in found.items()}
    _refuse_collisions(folders)
    return folders


def _found(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if not _is_pattern(name):
            yield existing(Path(name), "Scan")
            continue
        fitting = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - a pattern may be absolute
        if not fitting:
            raise UsageError(f"SCAN: expected files that fit {name!r}, found none")
        yield from (existing(Path(path), "Scan") for path in fitting)


def _is_pattern(name: str) -> bool:
    """Tell whether a name stands for others: a file that is called so is meant itself."""
    return glob.has_magic(name) and not Path(name).exists()


def _refuse_collisions(folders: Mapping[Path, Path]) -> None:
    sharing: dict[Path, list[str]] = defaultdict(list)
    for path, folder in folders.items():
        sharing[folder].append(str(path))
    told = [f"{folder} for {' and '.join(paths)}" for folder, paths in sharing.items() if len(paths) > 1]
    told += [
        f"{folder}, a table of all scans, for {paths[0]}"
        for folder, paths in sharing.items()
        if folder.name in TABLE_NAMES
    ]
    if told:
        raise UsageError(
            f"SCAN: expected names of which each has a folder of its own, found {'; '.join(told)}: rename one"
        )
