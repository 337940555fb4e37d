"""Scans by name, folder or pattern, and the folder of each result: settled before any work begins."""

from __future__ import annotations

import glob
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.command_line.parts import is_table_name
from ptycho_adapters.command_line.scan_input import existing
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.files.folders import scan_files
from ptycho_adapters.files.stacks.folder import frame_names
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def is_one_scan(names: Sequence[str]) -> bool:
    """Tell whether a single scan is named, which has the output folder itself.

    A pattern that fits one file counts as several: where a result lies should not hang on how many files fit today. So
    does a folder with scans in it.
    """
    return len(names) == 1 and not _is_pattern(names[0]) and not _scans_in(Path(names[0]))


def folders_of(names: Sequence[str], folder: Path, what: str = "SCAN") -> dict[Path, Path]:
    """Return the scans that were named, each with the folder of its result.

    A single file has the folder itself; of several, of a folder or of a pattern, each has one in it, called as the file
    without its suffix. A file that is named twice counts once.

    Args:
        names: files, folders of frames, folders of scan files, or patterns such as `day/*.npz`.
        folder: for everything that is written.
        what: how the command line calls them.

    Raises:
        UsageError: nothing is named, a pattern fits no file, or two results would have the same folder.
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder with neither frames nor scans.
    """
    found = {path.resolve(): path for path in _found(names, what)}
    if not found:
        raise UsageError(f"{what} is required: the scan to reconstruct, several of them, or a pattern in quotes")
    if is_one_scan(names):
        return dict.fromkeys(found.values(), folder)
    folders = {path: folder / (real.name if real.is_dir() else real.stem) for real, path in found.items()}
    _refuse_collisions(folders, what)
    return folders


def _found(names: Sequence[str], what: str) -> Iterator[Path]:
    for name in names:
        if not _is_pattern(name):
            yield from _scans_in(Path(name)) or [existing(Path(name), "Scan")]
            continue
        fitting = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - a pattern may be absolute
        if not fitting:
            raise UsageError(f"{what}: expected files that fit {name!r}, found none")
        yield from (existing(Path(path), "Scan") for path in fitting)


def _scans_in(path: Path) -> list[Path]:
    """List the scans in a folder; none of what is no folder, of one whose frames are a scan, or that has none."""
    if not path.is_dir() or frame_names(child.name for child in path.iterdir()):
        return []
    try:
        return scan_files(path)
    except ScanFileError:
        return []


def _is_pattern(name: str) -> bool:
    """Tell whether a name stands for others: a file that is called so is meant itself."""
    return glob.has_magic(name) and not Path(name).exists()


def _refuse_collisions(folders: Mapping[Path, Path], what: str) -> None:
    sharing: dict[Path, list[str]] = defaultdict(list)
    for path, folder in folders.items():
        sharing[folder].append(str(path))
    told = [f"{folder} for {' and '.join(paths)}" for folder, paths in sharing.items() if len(paths) > 1]
    told += [
        f"{folder}, a table of all scans, for {paths[0]}"
        for folder, paths in sharing.items()
        if is_table_name(folder.name)
    ]
    if told:
        raise UsageError(
            f"{what}: expected names of which each has a folder of its own, found {'; '.join(told)}: rename one"
        )
