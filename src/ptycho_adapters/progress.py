"""How far long work has come, for programs that show it in their own way.

with on_progress(lambda progress: print(progress.work, progress.fraction)):
result = reconstruct(model, scan)
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Iterator,
)
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import attrs


@attrs.frozen(kw_only=True)
class Progress:
    """How far a piece of work has come.

    Attributes:
        work: what is done, in words, such as "training" or "network and stitching".
        fraction: of it that is done, from 0 to 1; work that turns out to be done sooner ends before 1.
    """

    work: str
    fraction: float


Listener: TypeAlias = Callable[[Progress], None]

_LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("listeners to progress", default=())


@contextmanager
def on_progress(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Tell a function how far trainings and reconstructions are, as long as the context is open.

    It is called in the thread that works: at the start of each piece of work and whenever another percent of it is
    done, whether progress bars are shown or not.

    Args:
        listener: is given each progress. What it raises stops the work and comes out of the call that does it, so that
            a program can cancel.
    """
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield
    finally:
        _LISTENERS.reset(token)


def tell(work: str, fraction: float) -> None:
    """Tell all who listen."""
    for listener in _LISTENERS.get():
        listener(Progress(work=work, fraction=fraction))
