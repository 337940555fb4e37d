"""Reading ahead: while one piece is worked on, a thread brings the next ones."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Wanted = TypeVar("_Wanted")
_Found = TypeVar("_Found")
_AHEAD = 2


def read_ahead(
    read: Callable[[_Wanted], _Found], wanted: Iterable[_Wanted], *, ahead: int = _AHEAD
) -> Iterator[tuple[_Wanted, _Found]]:
    """Yield what is wanted with what was read for it, in order; what reading raises is raised in its place.

    Args:
        read: called in another thread, never twice at once.
        wanted: what to read.
        ahead: how many pieces are read beside the one that is worked on.
    """
    todo = iter(wanted)
    under_way: deque[tuple[_Wanted, Future[_Found]]] = deque()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ptycho-read-ahead")
    try:
        under_way.extend((each, thread.submit(read, each)) for each in islice(todo, ahead + 1))
        while under_way:
            each, future = under_way.popleft()
            found = future.result()
            del future  # it holds what was read
            under_way.extend((one, thread.submit(read, one)) for one in islice(todo, 1))
            yield each, found
    finally:
        thread.shutdown(cancel_futures=True)
