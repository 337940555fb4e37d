"""Stacks of patterns gone through in pieces, so that little memory is needed beside them, wherever they lie."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.any_array import AnyArray

_VALUES_AT_ONCE = 1 << 20


def is_memory_mapped(patterns: AnyArray) -> bool:
    """Tell whether an array is a file's content, read as it is touched, and not in memory."""
    return isinstance(patterns, np.memmap) and isinstance(_owner(patterns), mmap.mmap)


def frame_slices(
    patterns: AnyArray, *, values: int = _VALUES_AT_ONCE, first: int = 0, last: int | None = None
) -> Iterator[slice]:
    """Yield slices of the first axis, each of about so many values; what a map has read is given back after each.

    Args:
        patterns: (n, ...) stack.
        values: how many are wanted in a piece; at least one frame is in it.
        first: frame to begin with.
        last: frame to end before; None for all.
    """
    n_frames = len(patterns)
    step = max(1, values // max(1, patterns.size // max(1, n_frames)))
    end = n_frames if last is None else last
    for start in range(first, end, step):
        yield slice(start, min(start + step, end))
        release(patterns)


def release(patterns: AnyArray) -> None:
    """Give the memory back that the pages of a map take; nothing for any other array, and no value is lost."""
    owner = _owner(patterns)
    if isinstance(patterns, np.memmap) and isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        # Pages of a shared map of a file are kept by the system, changed ones too, so this only unmaps them.
        owner.madvise(mmap.MADV_DONTNEED)


def _owner(array: AnyArray) -> object:
    """Find what an array looks into in the end, None for memory that is NumPy's own."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner
