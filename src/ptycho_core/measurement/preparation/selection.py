"""Which frames of a measurement are kept."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_ONE = re.compile(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?")
_DARK, _BRIGHT = 0.1, 10.0  # of the median of the others


def frame_ranges(text: str) -> tuple[tuple[int, int], ...] | None:
    """Read frames such as "3,7,10-20" as (first, last) pairs, both of them meant; None for any other text."""
    if not text.strip():
        return ()
    found = [_ONE.fullmatch(part) for part in text.split(",")]
    pairs = [(int(one[1]), int(one[2] or one[1])) for one in found if one is not None]
    return tuple(pairs) if len(pairs) == len(found) and all(first <= last for first, last in pairs) else None


def kept_frames(n_frames: int, dropped: tuple[tuple[int, int], ...]) -> npt.NDArray[np.int64]:
    """Give the frames that are left of so many, ascending; ranges beyond the last frame drop what there is of them."""
    kept = np.ones(n_frames, dtype=bool)
    for first, last in dropped:
        kept[first : last + 1] = False
    return np.flatnonzero(kept)


def odd_frames(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Give the frames whose light, (n,), is not finite, or below a tenth or above ten times the median of all."""
    finite = np.isfinite(sums)
    if not finite.any():
        return np.arange(len(sums))
    median = float(np.median(sums[finite]))
    with np.errstate(invalid="ignore"):
        usual = finite & (sums > _DARK * median) & (sums < _BRIGHT * median)
    return np.flatnonzero(~usual)
