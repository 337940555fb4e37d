"""Images larger than any picture of them, made smaller before they are drawn: drawing takes ten times their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_Values = TypeVar("_Values", np.float64, np.complex64, np.complex128)

MOST_DRAWN_PX = 2048
"""Of a side; no picture has more."""


def coarse(
    values: npt.NDArray[_Values], shown: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[_Values], npt.NDArray[np.bool_], int]:
    """Take means over square blocks of an image (H, W), as small ones as bring it below the size of a picture.

    Args:
        values: of the pixels.
        shown: which of them count, (H, W); a block is shown if any of its pixels is.

    Returns:
        Means (h, w), 0 where nothing is shown; which are shown; and the side of a block. The last row and column of
        blocks may reach beyond the image.
    """
    side = -(-max(values.shape) // MOST_DRAWN_PX)
    if side == 1:
        return values, shown, 1
    counts = _sums(shown.astype(np.float64), side)
    totals = _sums(np.where(shown, values, np.zeros((), values.dtype)), side)
    return (totals / np.maximum(counts, 1.0)).astype(values.dtype), counts > 0.0, side


def _sums(values: npt.NDArray[_Values], side: int) -> npt.NDArray[_Values]:
    rows, columns = (np.arange(0, length, side) for length in values.shape)
    found: npt.NDArray[_Values] = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    return found


def extent_of_blocks(
    extent_px: tuple[float, float, float, float], shape: tuple[int, ...], side: int
) -> tuple[float, float, float, float]:
    """Give left, right, bottom, top of blocks (h, w) of an image, the last of which may reach beyond it.

    Args:
        extent_px: of the image: left, right, bottom, top.
        shape: of the blocks.
        side: of a block.
    """
    left, right, bottom, top = extent_px
    if side == 1:
        return left, right, bottom, top
    return left, left + shape[1] * side, top + shape[0] * side, top
