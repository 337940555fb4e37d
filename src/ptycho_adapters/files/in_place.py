"""Changing freshly read arrays where they lie: a stack of patterns is too large to be copied at every step."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from ptycho_core.measurement.frames import frame_slices, is_memory_mapped
from ptycho_core.measurement.stored import stored

_Scalar = TypeVar("_Scalar", bound=np.generic)


def unsealed(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Give an array that can be written to: this one where its memory is NumPy's own, else a copy.

    Only for arrays that nobody else holds.
    """
    owner = _owner(array)
    if owner is None:
        return array.copy()
    owner.setflags(write=True)
    array.setflags(write=True)
    return array


def sealed(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Give the same array, which can no longer be written to, neither directly nor through what it looks into."""
    owner = _owner(array)
    if owner is not None:
        owner.setflags(write=False)
    array.setflags(write=False)
    return array


def keep_frames(array: npt.NDArray[_Scalar], kept: npt.NDArray[np.integer]) -> npt.NDArray[_Scalar]:
    """Keep some frames of a stack: those of a map are moved together in its file, others are copied, or stay there.

    Args:
        array: (n, ...) stack that nobody else holds.
        kept: (m,) indices, ascending.
    """
    left = stored(array)
    if left is not None:
        return cast("npt.NDArray[_Scalar]", left.taken(kept))
    if not is_memory_mapped(array):
        copied: npt.NDArray[_Scalar] = array[kept]
        return copied
    moved = unsealed(array)
    for some in frame_slices(moved[: len(kept)]):
        # Frames only move towards the front, so none is written over before it has moved.
        moved[some] = moved[kept[some]]
    return sealed(moved[: len(kept)])


def as_unsigned(array: npt.NDArray[_Scalar]) -> npt.NDArray[np.generic]:
    """Look at signed integers of 2 or 4 bytes, none of which is negative, as unsigned ones."""
    dtype = array.dtype
    if stored(array) is not None:
        return array  # brought to the dtypes of a scan when they are read
    if dtype.kind == "i" and dtype.itemsize in (2, 4):
        return array.view(dtype.str.replace("i", "u"))
    return array


def _owner(array: npt.NDArray[_Scalar]) -> npt.NDArray[np.generic] | None:
    """Find the array whose memory this one looks into, None where that is neither NumPy's own nor a file to change."""
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        base: object = owner.base
        if isinstance(owner, np.memmap) and not isinstance(base, np.ndarray):
            return owner if owner.mode == "r+" else None
        owner = base
    return owner if isinstance(owner, np.ndarray) and owner.flags.owndata else None
