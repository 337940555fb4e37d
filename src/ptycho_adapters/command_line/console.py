"""Where words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ptycho_adapters.notices import NOTICES
from ptycho_adapters.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_LOG = logging.getLogger(__name__)
_HEARD: ContextVar[Callable[[str, int], None] | None] = ContextVar("who hears what is said", default=None)
_SPEAKS = ContextVar("whether this process speaks", default=True)


def tell(text: str) -> None:
    """Write a result.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Say what is going on; a log has it too, if there is one."""
    say(text, logging.INFO)


def confide(text: str) -> None:
    """Say what no log may have."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Say what may not be as meant, on one line."""
    say("warning: " + " ".join(text.split()), logging.WARNING)


def say(text: str, level: int) -> None:
    """Say something at a level of the log: to standard error, or to who hears this thread."""
    heard = _HEARD.get()
    if heard is not None:
        heard(text, level)
        return
    if _LOG.isEnabledFor(logging.INFO):  # else a warning would be shown a second time
        _LOG.log(level, "%s", text)
    if not _SPEAKS.get():
        return
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def heard_by(hear: Callable[[str, int], None]) -> Iterator[None]:
    """Let text and level of everything that this thread says go to somebody, instead of to standard error."""
    token = _HEARD.set(hear)
    try:
        yield
    finally:
        _HEARD.reset(token)


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing; of several processes that share a run one speaks."""
    token = _SPEAKS.set(False)
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        _SPEAKS.reset(token)


class _Notes(logging.Handler):
    """Notices of the library, as this command line says things."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one."""
        note(record.getMessage())


@contextmanager
def notices_told() -> Iterator[None]:
    """Say the library's notices on standard error; a log has them from there."""
    log, handler = logging.getLogger(NOTICES), _Notes()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def summary(title: str, figures: Mapping[str, object], files: Sequence[Path]) -> str:
    """Return a result as text: a title, one figure per line, the files.

    Args:
        title: first line.
        figures: by name; numbers are shown with four digits.
        files: what was written.
    """
    width = max((len(name) for name in figures), default=0)
    lines = [title, *(f"  {name:<{width}}  {shown(value)}" for name, value in figures.items())]
    return "\n".join([*lines, *(f"wrote {path}" for path in files)])


def table(figures: Mapping[str, Mapping[str, object]], files: Sequence[Path]) -> str:
    """Return the figures of several things side by side as text: a column for each, a line for each figure, the files.

    Args:
        figures: by name, for each thing by its name; numbers are shown with four digits.
        files: what was written.
    """
    names = dict.fromkeys(name for each in figures.values() for name in each)
    rows = [["", *figures]]
    rows += [[name, *(shown(each[name]) if name in each else "-" for each in figures.values())] for name in names]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*(line.rstrip() for line in lines), *(f"wrote {path}" for path in files)])


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """Show Python's warnings like ours; this library's own always."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        warn(str(message))

    with warnings.catch_warnings():
        # Other libraries' notices to their programmers are no news to a user.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("always", module=r"ptycho_(core|adapters)\b")
        warnings.showwarning = show
        yield
