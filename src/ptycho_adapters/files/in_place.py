"""Changing freshly read arrays where they lie: a stack of patterns is too large to be copied at every step."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

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


def as_unsigned(array: npt.NDArray[_Scalar]) -> npt.NDArray[np.generic]:
    """Look at signed integers of 2 or 4 bytes, none of which is negative, as unsigned ones."""
    dtype = array.dtype
    if dtype.kind == "i" and dtype.itemsize in (2, 4):
        return array.view(dtype.str.replace("i", "u"))
    return array


def _owner(array: npt.NDArray[_Scalar]) -> npt.NDArray[np.generic] | None:
    """Find the array whose memory this one looks into, None where that is not NumPy's own."""
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return owner if isinstance(owner, np.ndarray) and owner.flags.owndata else None
