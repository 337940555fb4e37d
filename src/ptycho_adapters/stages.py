"""Stages of a run: when one ends it says in the log what it was about, how much of it there was and how long it took.

A record's message is a line of `key=value`; the same pairs are its attribute `said`, for whoever writes them otherwise.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Value = str | int | float

STAGES = "ptycho_adapters.stages"
"""Name of the logger."""

_LOG = logging.getLogger(STAGES)
_OPEN: ContextVar[tuple[str, ...]] = ContextVar("open stages", default=())


class Stage:
    """A stage on its way.

    Attributes:
        found: what is known about it so far.
    """

    def __init__(self, found: Mapping[str, Value]) -> None:
        self.found: dict[str, Value] = dict(found)

    def count(self, **found: Value) -> None:
        """Add what has become known."""
        self.found |= found


@contextmanager
def stage(name: str, **found: Value) -> Iterator[Stage]:
    """Run a stage; when it ends, one way or the other, one record says so.

    Args:
        name: of the stage; those that run within it name it.
        found: what is known beforehand, such as how many patterns there are.
    """
    outer, started = _OPEN.get(), time.perf_counter()
    token, course = _OPEN.set((*outer, name)), Stage(found)
    failed: dict[str, Value] = {}
    try:
        yield course
    except BaseException as error:
        failed = {"failed": type(error).__name__}
        raise
    finally:
        _OPEN.reset(token)
        say(name, {"seconds": time.perf_counter() - started, **course.found, **failed})


def say(name: str, found: Mapping[str, Value], *, level: int = logging.INFO) -> None:
    """Say what there is to say about a stage that has ended, with the stage around it."""
    if not _LOG.isEnabledFor(level):
        return
    outer = _OPEN.get()
    around: dict[str, Value] = {"within": outer[-1]} if outer else {}
    said: dict[str, Value] = {"stage": name, **around, **found}
    _LOG.log(level, "%s", in_words(said), extra={"said": said})


def said_by(record: logging.LogRecord) -> Mapping[str, Value]:
    """Return what a record of a stage says; nothing of another record."""
    said = getattr(record, "said", None)
    return MappingProxyType(said if isinstance(said, dict) else {})


def in_words(said: Mapping[str, Value]) -> str:
    """Write pairs as `key=value`, numbers with four digits, words with spaces or signs in quotes."""
    return " ".join(f"{key}={_shown(value)}" for key, value in said.items())


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if text and not set(text) & set(' ="\n') else json.dumps(text, ensure_ascii=False)
