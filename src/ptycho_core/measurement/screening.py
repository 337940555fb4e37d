"""What a detector got wrong, found from its patterns alone before they are taken for a measurement.

Found are pixels that are hot, stuck or dead, gaps, single spikes, overflows, values that are no numbers or no photons,
and frames that are dark, glitched or not finite. A fault is what neither the pixels around it nor its own history
allow, by a factor and by far more than shot noise: a bright beam, a speckle and a dark corner are none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem
from ptycho_core.frozen import read_only
from ptycho_core.measurement.checks import pattern_shape
from ptycho_core.measurement.fault_words import (
    BadPixels,
    Fault,
    frame_faults,
    negative_faults,
    pixel_faults,
    reading_faults,
)
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.pixel_faults import (
    dead_blocks,
    dead_pixels,
    gaps,
    hot_pixels,
    is_constant_by_chance,
    third_brightest,
)
from ptycho_core.measurement.pixel_history import Mask, Readings, history_of
from ptycho_core.measurement.scan import MeasurementDomain
from ptycho_core.measurement.spikes import course_of, dark_frames

if TYPE_CHECKING:
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.pixel_history import History
    from ptycho_core.measurement.spikes import Course

_SMALLEST_PX = 8
_BAD_FRAME = 0.1
_OFTEN, _OFTEN_SHARE = 4, 0.01
_STUCK_SHARE, _MOST_STUCK, _NORMALISED = 0.9, 0.05, 0.2
_MOSTLY, _NEARLY_ALL = 0.5, 0.98
_SAMPLED_FRAMES = 16
# Noise about 0 beside any light has a sum above 0.
_LARGEST_NEGATIVE_SHARE = 0.9


def _sealed(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return read_only(array)


def _sealed_values(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return read_only(array)


def _sealed_mask(array: Mask) -> Mask:
    return read_only(array)


@attrs.frozen(kw_only=True, eq=False)
class Screening:
    """What is to be masked, left out and replaced. Arrays are read-only.

    Attributes:
        mask: (N, N) bool, pixels that are bad in all frames and not in the mask that is there.
        left_out: (k,) int64, frames that are no measurement, ascending.
        replaced: (m, 3) int64, frame, row and column of single readings that are none.
        values: (m,) float64, what takes their place, in the units of the patterns.
        clip: whether negative values stand for 0 photons.
        faults: all of it in words, with numbers and places.
        problem: why the mask cannot be meant as it is; None where it can.
    """

    mask: Mask = attrs.field(converter=_sealed_mask)
    left_out: npt.NDArray[np.int64] = attrs.field(converter=_sealed)
    replaced: npt.NDArray[np.int64] = attrs.field(converter=_sealed)
    values: npt.NDArray[np.float64] = attrs.field(converter=_sealed_values)
    clip: bool
    faults: tuple[Fault, ...]
    problem: Problem | None = None


def screen_patterns(
    patterns: AnyArray,
    bad_pixels: Mask | None = None,
    *,
    domain: MeasurementDomain = MeasurementDomain.COUNTS,
    full_scale: int | None = None,
) -> Screening | None:
    """Look for what a detector got wrong.

    Args:
        patterns: (n, N, N) as they are stored; gone through twice, in pieces, and never changed.
        bad_pixels: (N, N) bool, True where bad, if there is a mask.
        domain: whether the patterns are counts or amplitudes.
        full_scale: largest number of the integers that the patterns were stored in, where these were others.

    Returns:
        What was found; None for what is no stack of square patterns at all, or has too few pixels to compare.
    """
    known = pattern_shape(patterns)
    if known is None or known[1] < _SMALLEST_PX or not patterns.size or patterns.dtype.kind not in "iuf":
        return None
    good = np.ones((known[1], known[1]), dtype=bool)
    squared = domain is MeasurementDomain.AMPLITUDE
    readings = Readings(patterns=patterns, good=good, squared=squared, markers=_markers(patterns.dtype, full_scale))
    problem = None
    if bad_pixels is not None and bad_pixels.shape == good.shape and bad_pixels.dtype == np.bool_:
        problem = _inverted(readings, bad_pixels)
        readings = attrs.evolve(readings, good=~bad_pixels)
    return _screened(readings, problem)


def _markers(dtype: np.dtype[np.generic], full_scale: int | None) -> tuple[float, ...]:
    """Give the numbers that stand for an overflow: the largest of the type that the patterns were stored in."""
    if full_scale is not None:
        return (float(full_scale),)
    if dtype.kind in "iu" and dtype.itemsize <= 4:
        return (float(np.iinfo(dtype.name).max),)
    # Wider numbers have been widened from the largest integers that detectors write.
    return (float(2**32 - 1), float(2**32)) if dtype.kind == "f" else (float(2**32 - 1),)


def _inverted(readings: Readings, bad: Mask) -> Problem | None:
    """Say that nearly all of the light lies under the mask, where that has most of the pixels."""
    if bad.mean() <= _MOSTLY or bad.all():
        return None
    step = -(-len(readings.patterns) // _SAMPLED_FRAMES)
    raw = np.asarray(readings.patterns[::step])
    light = readings.counts(raw, readings.not_finite(raw) | readings.overflows(raw)).mean(axis=0, dtype=np.float64)
    light = np.minimum(light, third_brightest(light))
    total = float(light.sum())
    if total <= 0.0 or float(light[bad].sum()) < _NEARLY_ALL * total:
        return None
    found = f"a mask that seems inverted: the {bad.mean():.0%} of the pixels that it marks hold nearly all of the light"
    expected = "a mask that marks bad pixels, and leaves those that are lit"
    return Problem(
        path="bad_pixels", expected=expected, found=found, fix="invert it: mark what it leaves, and leave what it marks"
    )


def _screened(readings: Readings, problem: Problem | None) -> Screening:
    history = history_of(readings)
    lost = history.bad_in_frame > _BAD_FRAME * max(1, int(readings.good.sum()))
    never = _never_read(readings, history, lost)
    left = attrs.evolve(readings, good=readings.good & ~(never[0] | never[1] | never[2]))
    hot, between = _hot_and_gaps(history, left.good, len(lost))
    course = course_of(left, history, hot | between, lost)
    stuck = _stuck(history, course, left.good)
    pixels = _bad_pixels(left.good, never, hot, stuck, course, history.unit)
    mask = _joined(pixels, readings.good)
    dark = dark_frames(course, lost, stuck=float(history.high[stuck & ~hot].sum()))
    out = lost | dark | course.glitched
    if out.all() or mask[readings.good].all():
        # Whatever this is, it is for the validation of a scan to say.
        return _nothing(readings, problem)
    replaced = [each for each in course.replaced if not mask[each.y, each.x]]
    clip = _is_noise_about_zero(readings, history, mask)
    faults = [*pixel_faults(pixels), *reading_faults(replaced), *frame_faults(lost, dark, course)]
    if clip:
        faults += negative_faults(history, readings.good & ~mask)
    return Screening(
        mask=mask,
        left_out=np.flatnonzero(out).astype(np.int64),
        replaced=np.asarray([(each.frame, each.y, each.x) for each in replaced], dtype=np.int64).reshape(-1, 3),
        values=_in_units(readings, np.asarray([each.value for each in replaced], dtype=np.float64)),
        clip=clip,
        faults=tuple(faults),
        problem=problem,
    )


def _nothing(readings: Readings, problem: Problem | None) -> Screening:
    return Screening(
        mask=np.zeros_like(readings.good),
        left_out=np.zeros(0, dtype=np.int64),
        replaced=np.zeros((0, 3), dtype=np.int64),
        values=np.zeros(0),
        clip=False,
        faults=(),
        problem=problem,
    )


def _often(n_frames: int) -> int:
    """Give the number of frames from which on it is the pixel's fault."""
    return min(n_frames, max(_OFTEN, math.ceil(_OFTEN_SHARE * n_frames)))


def _never_read(readings: Readings, history: History, lost: Mask) -> tuple[Mask, Mask, Mask]:
    """Tell the pixels that are often an overflow, often not finite, or marked by a negative number."""
    n_lost = int(np.count_nonzero(lost))
    often = max(1, _often(len(lost) - n_lost))
    overflow = readings.good & (history.n_overflow - n_lost >= often)
    not_finite = readings.good & (history.n_not_finite - n_lost >= often) & ~overflow
    return overflow, not_finite, readings.good & history.marked & ~overflow & ~not_finite


def _hot_and_gaps(history: History, good: Mask, n_frames: int) -> tuple[Mask, Mask]:
    """Tell hot pixels from those beside a gap, and a gap although a pixel in it is hot."""
    total = history.level * n_frames
    hot = np.zeros_like(good)
    while True:
        between = _in_lines(*gaps(total, good & ~hot, unit=history.unit), good)
        more = hot_pixels(history.level, good & ~hot & ~between, n_frames=n_frames, unit=history.unit)
        if not more.any():
            return hot, between
        hot |= more


def _in_lines(rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], good: Mask) -> Mask:
    inside = np.zeros_like(good)
    inside[rows], inside[:, columns] = True, True
    return inside & good


def _stuck(history: History, course: Course, good: Mask) -> Mask:
    """Tell the pixels that show one value, other than 0, more often than shot noise allows."""
    n_same = int(_STUCK_SHARE * course.n_looked_at)
    same = good & (history.high > 0) & (course.n_usual >= max(1, n_same))
    # An estimate near 1 stands for photons.
    unit = history.unit if history.unit < _NORMALISED else 1.0
    same &= ~is_constant_by_chance(history.high / unit, n_same)
    # So many at once are equal frames, as simulations without noise have.
    return same if same.sum() <= _MOST_STUCK * good.sum() else np.zeros_like(same)


def _bad_pixels(
    good: Mask, never: tuple[Mask, Mask, Mask], hot: Mask, stuck: Mask, course: Course, unit: float
) -> BadPixels:
    flickering, total = np.zeros(good.shape, dtype=np.int64), course.total.copy()
    for each in course.replaced:
        total[each.y, each.x] -= each.found - each.value
        flickering[each.y, each.x] += each.kind is Suspicion.SPIKES
    flickers = (flickering >= _often(course.n_looked_at)) & ~stuck
    left = good & ~(hot | stuck | flickers)
    rows, columns = gaps(total, left, unit=unit)
    left &= ~_in_lines(rows, columns, good)
    blocks = dead_blocks(total, left, unit=unit)
    dead = dead_pixels(total, left & ~blocks, unit=unit)
    overflow, not_finite, marked = never
    kinds = (
        (Suspicion.STUCK_PIXELS, "with one value in all frames, stuck", stuck),
        (Suspicion.HOT_PIXELS, "with many times the light of those around, hot", hot & ~stuck),
        (Suspicion.HOT_PIXELS, "that flash again and again, hot", flickers & ~hot),
        (Suspicion.DEAD_PIXELS, "dark although those around are lit, dead", dead),
        (Suspicion.DEAD_PIXELS, "without a count within straight lit sides, a dead block", blocks),
        (Suspicion.DEAD_PIXELS, "with one negative number in all frames, a gap", marked),
        (Suspicion.OVERFLOW, "with the largest number of their type in many frames", overflow),
        (Suspicion.NOT_FINITE, "that are NaN or infinite in many frames", not_finite),
    )
    return BadPixels(kinds=kinds, rows=rows, columns=columns)


def _joined(pixels: BadPixels, good: Mask) -> Mask:
    mask = _in_lines(pixels.rows, pixels.columns, good)
    for _, _, where in pixels.kinds:
        mask |= where
    return mask & good


def _is_noise_about_zero(readings: Readings, history: History, mask: Mask) -> bool:
    """Tell whether there are negative values, and light far above them."""
    negative = float(history.negative_sum[readings.good & ~mask].sum())
    return not readings.squared and 0.0 < negative < _LARGEST_NEGATIVE_SHARE * history.positive_sum


def _in_units(readings: Readings, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values = np.sqrt(counts) if readings.squared else counts
    return values if readings.patterns.dtype.kind == "f" else np.rint(values)
