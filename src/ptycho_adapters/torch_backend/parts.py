"""Names for what the operations of a run are about: ranges of torch's profiler, and nothing where nobody watches."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from torch.profiler import record_function

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "ptycho: "
"""Before the name of a part, in a trace."""

WATCHED: ContextVar[bool] = ContextVar("a profiler watches", default=False)
"""Whether the ranges are wanted; each costs ten microseconds."""


@contextmanager
def part(name: str) -> Iterator[None]:
    """Call what happens within by a name; parts within it have their own."""
    if not WATCHED.get():
        yield
        return
    with record_function(PREFIX + name):
        yield
