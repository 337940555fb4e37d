"""Files that are either the old one or the new one, complete, whatever happens in between.

New content goes to a hidden file in the same directory, reaches the disk, and only then takes the name. A process that
is killed leaves at most such a hidden file, which nothing reads and which the next process that writes into the
directory removes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ptycho_adapters.partials import partial_path, remove_abandoned_once

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IN_TEXT = re.compile(r"\b(?:errno = |os error )(\d+)")  # as HDF5 and Rust libraries pass it on
_SHORT = re.compile(r"\d+ requested and \d+ written")  # as NumPy says it of tofile

Writer = Callable[[Path], None]
"""Writes a whole file to the path it is given."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Lend a temporary path whose file replaces `path` when the block ends well.

    Args:
        path: the file to make or replace; a symbolic link is followed. Its directory must exist.

    Yields:
        A path in the same directory for the block to write to.

    Raises:
        OSError: from the file system; `path` is then as it was. Where there is no room, `path` is its `filename`.
    """
    target = _target(path)
    partial = partial_path(target)
    try:
        with _saying_what_is_full(target):
            yield partial
            _flush(partial)
        partial.replace(target)
        _flush_directory(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def commit_files(writers: Mapping[Path, Writer]) -> None:
    """Write a set of files: first all of them under temporary names, then rename one after the other.

    A writer that fails, or a process that is killed while writing, leaves every file as it was. Only a kill between two
    renames can leave the first files new and the others old, and each of them is still complete.

    Args:
        writers: what to write where; renamed in this order.

    Raises:
        OSError: from the file system. Where there is no room, the file that was being written is its `filename`.
    """
    targets = [_target(path) for path in writers]
    partials = {target: partial_path(target) for target in targets}
    try:
        for (target, partial), write in zip(partials.items(), writers.values(), strict=True):
            with _saying_what_is_full(target):
                write(partial)
                _flush(partial)
        for target, partial in partials.items():
            partial.replace(target)
        for directory in {target.parent for target in partials}:
            _flush_directory(directory)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a small file atomically."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def _target(path: str | Path) -> Path:
    """Follow links to the file itself; its folder has to be there, and is rid of what killed processes left."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder to write to", str(target.parent))
    remove_abandoned_once(target.parent)
    return target


@contextmanager
def _saying_what_is_full(target: Path) -> Iterator[None]:
    """Name the file and the remedy where a disk, a quota or the largest size of a file is reached."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = _no_room(error)
        if number is None:
            raise
        advice = "make room there, or write to another folder; what was there before is as it was"
        raise OSError(number, f"{os.strerror(number)} ({advice})", str(target)) from error


def _no_room(error: OSError | RuntimeError) -> int | None:
    """Give the number of an error that says that there is no room; some libraries say it in its text alone."""
    said = {int(number) for number in _IN_TEXT.findall(str(error))}
    if _SHORT.search(str(error)):
        said.add(errno.ENOSPC)
    if isinstance(error, OSError) and error.errno is not None:
        said.add(error.errno)
    return next(iter(said & _NO_ROOM), None)


def _flush(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_directory(directory: Path) -> None:
    """Wait until a rename is on the disk; only POSIX systems open directories."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
