"""Building blocks of immutable values: read-only arrays and mappings."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

ScalarT = TypeVar("ScalarT", bound=np.generic)
ValueT = TypeVar("ValueT")


class FrozenMapping(Mapping[str, ValueT]):
    """A mapping that cannot change, can be pickled and compares equal to any equal mapping.

    Args:
        items: what it holds; copied.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, ValueT] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> ValueT:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"FrozenMapping({self._items!r})"


def read_only(array: npt.NDArray[ScalarT]) -> npt.NDArray[ScalarT]:
    """Give a C-contiguous array that nobody can write to.

    An array that is already sealed is returned as it is, so that large data are not copied twice; anything else is
    copied, and the caller's array keeps its flags.
    """
    if _is_sealed(array) and array.flags.c_contiguous:
        return array
    sealed = np.array(array, order="C", copy=True, subok=False)
    sealed.setflags(write=False)
    return sealed


def _is_sealed(array: npt.NDArray[ScalarT]) -> bool:
    """Tell whether neither the array nor anything it looks into can be written through."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return owner is None or isinstance(owner, bytes | mmap.mmap)
