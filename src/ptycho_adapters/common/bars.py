"""Progress of long work: bars of one look on standard error, and the same told to whoever listens.

Whether bars are drawn is said once for a run (`bars_drawn`); what is told does not depend on it.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self, TypeVar

from tqdm import tqdm

from ptycho_adapters.progress import tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

_FORMAT = "{desc} {percentage:3.0f}% |{bar}| {elapsed} done, {remaining} left{postfix}"
_TERMINAL_INTERVAL_S, _LOG_INTERVAL_S = 0.2, 20.0  # a terminal redraws one line; a log file gets a new one
_ROUNDING = 1e-6  # of a percent
_DRAWN: ContextVar[bool] = ContextVar("whether bars are drawn", default=True)
_Item = TypeVar("_Item")


@contextmanager
def bars_drawn(*, wanted: bool) -> Iterator[None]:
    """Say whether the bars of what is done within are drawn; those around it stay as they are."""
    token = _DRAWN.set(wanted and _DRAWN.get())
    try:
        yield
    finally:
        _DRAWN.reset(token)


class Bar:
    """How far a piece of work is.

    Args:
        work: what is done, in words.
        of: all of it, in whatever is counted.
        done: of it before.
        stays: whether its last state is left standing.
    """

    def __init__(self, work: str, *, of: float = 1.0, done: float = 0.0, stays: bool = True) -> None:
        self._work, self._of, self._done, self._percent = work, of, done, -1
        self._told_s = time.perf_counter()
        self._drawn = tqdm(
            total=of,
            initial=done,
            desc=work,
            bar_format=_FORMAT,
            file=sys.stderr,
            mininterval=_interval_s(),
            dynamic_ncols=True,
            leave=stays,
            disable=not _DRAWN.get() or sys.stderr is None,
        )
        self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def come_to(self, done: float) -> None:
        """Say how much is done."""
        self._drawn.update(done - self._done)
        self._done = done
        self._tell()

    def along(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Go through some items, each of which counts for one when it is done with."""
        for item in items:
            yield item
            self.come_to(self._done + 1.0)

    def wants_figures(self) -> bool:
        """Whether it is time to say figures that cost something to find out."""
        now = time.perf_counter()
        if self._drawn.disable or now - self._told_s < _interval_s():
            return False
        self._told_s = now
        return True

    def say(self, **figures: object) -> None:
        """Put figures beside the bar, to be seen when it is drawn next."""
        self._drawn.set_postfix(figures, refresh=False)

    def step_aside(self) -> None:
        """Leave the line to something else; it comes back with `redraw`."""
        self._drawn.clear()

    def redraw(self) -> None:
        """Draw it now."""
        self._drawn.refresh()

    def close(self) -> None:
        """Leave it as it is, or take it away."""
        self._drawn.close()

    def _tell(self) -> None:
        percent = int(100.0 * self._done / self._of + _ROUNDING) if self._of else 100
        if percent != self._percent:
            self._percent = percent
            tell(self._work, self._done / self._of if self._of else 1.0)


def counted(number: int, work: str) -> Iterator[int]:
    """Count from 0 to `number`, exclusive, with a bar that goes away at the end."""
    with Bar(work, of=number, stays=False) as bar:
        yield from bar.along(range(number))


def _interval_s() -> float:
    return _TERMINAL_INTERVAL_S if sys.stderr is not None and sys.stderr.isatty() else _LOG_INTERVAL_S
