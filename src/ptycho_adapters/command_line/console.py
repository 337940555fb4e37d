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

from ptycho_adapters.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LOG = logging.getLogger(__name__)
_HEARD = ContextVar("whether this process speaks", default=True)


def tell(text: str) -> None:
    """Write a result.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Say what is going on; a log has it too, if there is one."""
    _say(text, logging.INFO)


def warn(text: str) -> None:
    """Say what may not be as meant, on one line."""
    _say("warning: " + " ".join(text.split()), logging.WARNING)


def _say(text: str, level: int) -> None:
    if _LOG.isEnabledFor(logging.INFO):  # else a warning would be shown a second time
        _LOG.log(level, "%s", text)
    if not _HEARD.get():
        return
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing; of several processes that share a run one speaks."""
    token = _HEARD.set(False)
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        _HEARD.reset(token)


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
