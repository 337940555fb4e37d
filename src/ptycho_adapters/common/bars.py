"""Progress bars on standard error: of one look, in terminals and in log files; none where there is no such stream."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMAT = "{desc} {percentage:3.0f}% |{bar}| {elapsed} done, {remaining} left{postfix}"
_TERMINAL_INTERVAL_S, _LOG_INTERVAL_S = 0.2, 20.0  # a terminal redraws one line; a log file gets a new one


def fraction_bar(what: str, done: float) -> tqdm[Any]:
    """Open a bar from 0 to 1 that has come to `done` already."""
    return tqdm(
        total=1.0,
        initial=done,
        desc=what,
        bar_format=_FORMAT,
        file=sys.stderr,
        mininterval=_interval_s(),
        dynamic_ncols=True,
        disable=sys.stderr is None,
    )


def counted(number: int, what: str, *, shown: bool) -> Iterable[int]:
    """Count from 0 to `number`, exclusive, with a bar that goes away at the end."""
    return tqdm(
        range(number),
        desc=what,
        bar_format=_FORMAT,
        file=sys.stderr,
        mininterval=_interval_s(),
        dynamic_ncols=True,
        leave=False,
        disable=not shown or sys.stderr is None,
    )


def _interval_s() -> float:
    return _TERMINAL_INTERVAL_S if sys.stderr is not None and sys.stderr.isatty() else _LOG_INTERVAL_S
