"""Which other files an HDF5 file may lead to: those of its own folder and below, unless somebody allows all."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = "data in this file, or in one of its folder"
_ANYWHERE: ContextVar[bool] = ContextVar("ptycho_links_anywhere", default=False)


class ElsewhereError(ValueError):
    """A link that may not be followed, or whose file is not there."""


@contextmanager
def links_followed_anywhere() -> Iterator[None]:
    """Let links lead to any file, in this context."""
    token = _ANYWHERE.set(True)
    try:
        yield
    finally:
        _ANYWHERE.reset(token)


def linked_file(file_name: str, linked: str) -> Path:
    """Give the file that a link means.

    Args:
        file_name: of the file with the link.
        linked: the name in the link; a relative one counts from the folder of the file.

    Returns:
        A file that is there.

    Raises:
        ElsewhereError: it is not there, or in no folder that links may lead to; links of the file system count as
            what they lead to.
    """
    folder = Path(file_name).resolve().parent
    target = (folder / linked).resolve()
    what = f"a link to the file {linked}"
    if not _ANYWHERE.get() and (Path(linked).is_absolute() or not target.is_relative_to(folder)):
        raise ElsewhereError(f"{what}, which is not in its folder")
    if not target.is_file():
        raise ElsewhereError(f"{what}, which is not there")
    return target
