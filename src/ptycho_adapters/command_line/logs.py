"""What a run logs: on standard error as far as it is asked for, and as lines of JSON in a file."""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.command_line import console
from ptycho_adapters.stages import said_by, stage
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ptycho_adapters.stages import Stage

_OURS = "ptycho_adapters"
_LEVELS = ("warning", "info", "debug")
_LOG = logging.getLogger(__name__)

Logged = dict[str, object]
"""A record of a log, as it travels between processes."""


def add_log_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser both flags."""
    parser.add_argument(
        "--log-level",
        choices=_LEVELS,
        help="info: say on stderr what each stage of the run did, with counts and seconds; debug: each step too "
        "(default: warning)",
    )
    parser.add_argument(
        "--log-file",
        metavar="FILE",
        help="add the same to this file, a line of JSON each, with all that is said on stderr",
    )


def logs_of(
    command: str, typed: Mapping[str, object], arguments: Sequence[str], *, rank: int = 0
) -> AbstractContextManager[None]:
    """Give what logs a run as its flags say; nothing where they say nothing.

    Of several processes that share a run the first one logs to standard error and into the file; each of the others has
    a file of its own, with its number before the suffix.

    Args:
        command: its name.
        typed: what was typed.
        arguments: the same as text, for the log.
        rank: number of this process in the run.
    """
    level, path = str(typed.get("log_level") or "warning"), typed.get("log_file")
    if path is None and (rank or level == "warning"):
        return nullcontext()
    own = None if path is None else Path(str(path))
    if own is not None and rank:
        own = own.with_name(f"{own.stem}.{rank}{own.suffix}")
    return _logged(command, (level, rank == 0), own, arguments)


@contextmanager
def _logged(command: str, wish: tuple[str, bool], path: Path | None, arguments: Sequence[str]) -> Iterator[None]:
    level, speaks = wish
    ours, least = logging.getLogger(_OURS), logging.DEBUG if level == "debug" else logging.INFO
    handlers: list[logging.Handler] = [] if level == "warning" or not speaks else [_Stderr()]
    if path is not None:
        path.parent.mkdir(exist_ok=True)  # that of the results may be still to be made
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
        handlers[-1].setFormatter(_JsonLines())
    before = ours.level
    ours.setLevel(least)
    for handler in handlers:
        handler.setLevel(least)
        ours.addHandler(handler)
    try:
        _LOG.info("started", extra={"said": {"version": VERSION, "arguments": " ".join(arguments)}})
        with stage("run", command=command) as course, _with_its_reason(course):
            yield
    finally:
        ours.setLevel(before)
        for handler in handlers:
            ours.removeHandler(handler)
            handler.close()


@contextmanager
def _with_its_reason(course: Stage) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        course.count(reason=" ".join(str(error).split()))
        raise


def wanted_level() -> int | None:
    """Return the level that this process logs from; None where it logs nothing."""
    return logging.getLogger(_OURS).level or None


@contextmanager
def collected(level: int | None) -> Iterator[list[Logged]]:
    """Collect what this thread logs, for `replay` in another process.

    Args:
        level: from which on; None for nothing at all.
    """
    if level is None:
        yield []
        return
    ours, handler = logging.getLogger(_OURS), _Collector()
    before = ours.level
    ours.setLevel(level)
    ours.addHandler(handler)
    try:
        yield handler.found
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)


def replay(logged: Iterable[Logged]) -> None:
    """Log what another process has logged, with its time."""
    for each in logged:
        logging.getLogger(str(each["name"])).handle(logging.makeLogRecord(each))


class _Collector(logging.Handler):
    """The records of the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Logged] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's words."""
        if record.thread == self._thread:
            kept = ("name", "levelno", "levelname", "created", "said")
            told = {name: value for name, value in vars(record).items() if name in kept}
            self.found.append({**told, "msg": record.getMessage()})


class _Stderr(logging.Handler):
    """Standard error, above progress bars; what the command says there itself is not said twice."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        from tqdm import tqdm  # noqa: PLC0415 - only where it is asked for

        if record.name != console.__name__ and sys.stderr is not None:
            tqdm.write(self.format(record), file=sys.stderr)


class _JsonLines(logging.Formatter):
    """A line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, where it comes from and the words; of a stage what it says instead of words."""
        said = said_by(record)
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **({} if "stage" in said else {"message": record.getMessage()}),
            **said,
        }
        return json.dumps(line, ensure_ascii=False)
