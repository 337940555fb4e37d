"""Dark frames: what a detector shows without light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.measurement.frames import frame_slices

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptycho_core.any_array import AnyArray


def mean_dark(frames: AnyArray) -> npt.NDArray[np.float32]:
    """Give the mean of dark frames, (H, W), of (n, H, W) or of one, (H, W)."""
    stack = frames if frames.ndim == 3 else frames[np.newaxis]
    total = np.zeros(stack.shape[1:])
    for some in frame_slices(stack):
        total += stack[some].sum(axis=0, dtype=np.float64)
    return (total / len(stack)).astype(np.float32)


def less_dark(frames: AnyArray, dark: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Take a dark frame (H, W) off frames (m, H, W); the largest number of an unsigned type stands for none: NaN.

    What noise brings below 0 stays below: it is for the detector check to say and to clip.
    """
    left = frames.astype(np.float32) - dark
    if frames.dtype.kind == "u":
        left[frames == np.iinfo(frames.dtype.name).max] = np.nan
    return left
