"""What each pixel of a detector usually holds, from a stack of patterns that may have any fault."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray
from ptycho_core.measurement.frames import frame_slices, release

if TYPE_CHECKING:
    from collections.abc import Iterator


Image = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Small pieces: there are several arrays of their size beside them.
_VALUES_AT_ONCE = 1 << 16
_FRAMES_PER_STRETCH = 8
_FEWEST_STRETCHES, _MOST_STRETCHES = 8, 64
_STRETCH_VALUES = 1 << 24
_KEPT_SHARE = 0.75
_SAMPLED_FRAMES = 16
_FAR_ABOVE = 10.0
_FEWEST_DIFFERENCES = 10
_MEDIAN_OF_SQUARE = 0.4549  # of a normal deviate
_LARGEST_COUNT = 1e18


@attrs.frozen(kw_only=True, eq=False)
class Readings:
    """A stack as its numbers are to be understood.

    Attributes:
        patterns: (n, N, N) of integers or floating-point numbers; anything may stand in it.
        good: (N, N), pixels that no mask has.
        squared: whether counts are the squares of the numbers.
        markers: numbers that stand for an overflow.
    """

    patterns: AnyArray
    good: Mask
    squared: bool
    markers: tuple[float, ...]

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[tuple[slice, AnyArray]]:
        """Yield some frames at a time, with their place in the stack."""
        for some in frame_slices(self.patterns, values=_VALUES_AT_ONCE, first=first, last=last):
            yield some, self.patterns[some]

    def counts(self, raw: AnyArray, invalid: Mask) -> Counts:
        """Give counts, float32; 0 for what is none: negative, invalid or masked."""
        counts = np.where(invalid | ~self.good, np.float32(0.0), raw).astype(np.float32, copy=False)
        np.maximum(counts, 0.0, out=counts)
        return np.square(counts, out=counts) if self.squared else counts

    def overflows(self, raw: AnyArray) -> Mask:
        """Tell where a marker of an overflow stands, or more than any detector counts."""
        none = np.zeros(raw.shape, dtype=bool)
        largest = float(np.max(raw, initial=0)) if raw.dtype.kind in "iu" else np.inf
        if largest < min(self.markers, default=np.inf) and largest < _LARGEST_COUNT:
            return none
        found = none
        for marker in self.markers:
            found = found | (raw == np.asarray(marker).astype(raw.dtype))
        if raw.dtype.kind == "f":
            found = found | (np.isfinite(raw) & (cast("Image", raw) > _LARGEST_COUNT))
        return found

    def not_finite(self, raw: AnyArray) -> Mask:
        """Tell where there is no number."""
        return ~np.isfinite(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, dtype=bool)


@attrs.frozen(kw_only=True, eq=False)
class History:
    """What the pixels hold over the scan, in counts; stretches are runs of neighbouring frames.

    Attributes:
        level: (N, N), mean of each pixel over three quarters of the stretches, those with most light left out.
        high: (N, N), median over the stretches of the largest count in each.
        unit: counts of one event: 1 for photons, the noise or the gain of a detector that does not count them.
        n_not_finite: (N, N), frames in which a pixel is not finite.
        n_overflow: (N, N), frames in which a pixel holds a marker of an overflow.
        marked: (N, N), pixels with one and the same negative number in all frames.
        bad_in_frame: (n,), good pixels of each frame that are not finite or overflow.
        n_negative: (N, N), frames in which a pixel is negative.
        negative_sum: (N, N), sum of its negative values in the units of the stack, as a number >= 0.
        positive_sum: sum of all other values at good pixels.
    """

    level: Image
    high: Image
    unit: float
    n_not_finite: npt.NDArray[np.int64]
    n_overflow: npt.NDArray[np.int64]
    marked: Mask
    bad_in_frame: npt.NDArray[np.int64]
    n_negative: npt.NDArray[np.int64]
    negative_sum: Image
    positive_sum: float


def history_of(readings: Readings) -> History:
    """Go through a stack once, in pieces."""
    n_frames, *shape = readings.patterns.shape
    edges = _stretches(n_frames, shape[0] * shape[1])
    means, highs = (np.zeros((len(edges) - 1, *shape), dtype=np.float32) for _ in range(2))
    n_not_finite, n_overflow, n_negative = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    bad_in_frame = np.zeros(n_frames, dtype=np.int64)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    negative_sum, positive_sum = np.zeros(shape), 0.0
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        for some, raw in readings.pieces(first, last):
            lost, over = readings.not_finite(raw), readings.overflows(raw)
            n_not_finite += lost.sum(axis=0)
            n_overflow += over.sum(axis=0)
            bad_in_frame[some] = ((lost | over) & readings.good).sum(axis=(1, 2))
            if raw.dtype.kind != "u":
                low, high = np.fmin(low, raw.min(axis=0)), np.fmax(high, raw.max(axis=0))
                negative = (cast("Image", raw) < 0) & np.isfinite(raw)
                n_negative += negative.sum(axis=0)
                negative_sum -= np.where(negative, raw, 0).sum(axis=0, dtype=np.float64)
            counts = readings.counts(raw, lost | over)
            means[number] += counts.sum(axis=0, dtype=np.float64) / (last - first)
            highs[number] = np.maximum(highs[number], counts.max(axis=0))
            positive_sum += float((np.sqrt(counts) if readings.squared else counts).sum(dtype=np.float64))
    kept = max(1, int(_KEPT_SHARE * len(means)))
    means.sort(axis=0)
    level = means[:kept].mean(axis=0, dtype=np.float64)
    usual_high = np.median(highs, axis=0, overwrite_input=True).astype(np.float64)
    del means, highs
    return History(
        level=level,
        high=usual_high,
        unit=_unit(readings, level),
        n_not_finite=n_not_finite,
        n_overflow=n_overflow,
        marked=(low == high) & (high < 0),
        bad_in_frame=bad_in_frame,
        n_negative=n_negative,
        negative_sum=negative_sum,
        positive_sum=positive_sum,
    )


def _stretches(n_frames: int, pixels: int) -> list[int]:
    """Give the ends of the stretches: many, so that a fault that comes and goes is in few of them."""
    most = max(_FEWEST_STRETCHES, min(_MOST_STRETCHES, _STRETCH_VALUES // pixels))
    number = min(n_frames, max(_FEWEST_STRETCHES, min(most, n_frames // _FRAMES_PER_STRETCH)))
    return [round(edge) for edge in np.linspace(0, n_frames, number + 1)]


def _unit(readings: Readings, level: Image) -> float:
    """Estimate the counts of one event from frames from all of the scan.

    Where a pixel is now 0 and now not, its share of zeros tells how many events its other readings are. Where none is
    ever 0, the scatter about what a pixel's neighbours in its row hold tells: the square root of the events, if the
    light is smooth. The smaller of the two holds.
    """
    step = -(-len(readings.patterns) // _SAMPLED_FRAMES)
    sampled = []
    for number in range(0, len(readings.patterns), step):
        raw = np.asarray(readings.patterns[number])
        sampled.append(readings.counts(raw, readings.not_finite(raw) | readings.overflows(raw)))
        release(readings.patterns)
    sums = np.asarray([counts.sum(dtype=np.float64) for counts in sampled])
    usual = [counts for counts, total in zip(sampled, sums, strict=True) if total <= _FAR_ABOVE * np.median(sums)]
    lit = level > 0
    if not usual or not lit.any():
        return 1.0
    dim = lit & (level <= np.median(level[lit]))
    by_scatter = float(np.median([_by_scatter(counts.astype(np.float64), dim) for counts in usual]))
    unit = min(_by_zeros(np.stack(usual)), by_scatter)
    return unit if 0.0 < unit < math.inf else 1.0


def _by_zeros(counts: Counts) -> float:
    """Give the mean of a pixel's readings over the events that its share of zeros stands for, in the median."""
    share = np.mean(counts == 0, axis=0)
    some = (share > 0.0) & (share < 1.0)
    if np.count_nonzero(some) < _FEWEST_DIFFERENCES:
        return math.inf
    return float(np.median(counts.mean(axis=0, dtype=np.float64)[some] / -np.log(share[some])))


def _by_scatter(counts: Image, dim: Mask) -> float:
    """Give the variance over the mean, from second differences along the rows."""
    inner = dim[:, 1:-1] & dim[:, :-2] & dim[:, 2:]
    left, middle, right = counts[:, :-2][inner], counts[:, 1:-1][inner], counts[:, 2:][inner]
    mean = (left + middle + right) / 3.0
    if np.count_nonzero(mean) < _FEWEST_DIFFERENCES:
        return math.inf
    known = mean > 0
    squares = np.square(left - 2.0 * middle + right)[known] / (6.0 * mean[known])
    return float(np.median(squares)) / _MEDIAN_OF_SQUARE
