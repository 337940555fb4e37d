"""Readings that do not belong: single spikes, and frames that hold far more or less light than the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.pixel_faults import OFFSETS, TOUCHING, bounds, is_of_many
from ptycho_core.measurement.pixel_history import Counts, Image, Mask

if TYPE_CHECKING:
    from ptycho_core.measurement.pixel_history import History, Readings

_TIMES_HISTORY, _TIMES_NEAR, _TIMES_FAR = 3.0, 10.0, 30.0
_SIGMAS, _EVENTS = 10.0, 12.0
_FEWEST_FRAMES = 3
_MOST_PIXELS = 0.1
_GLITCH_TIMES, _DARK_SHARE = 10.0, 3e-3


@attrs.frozen(kw_only=True, eq=False)
class Replaced:
    """A reading with what takes its place.

    Attributes:
        frame, y, x: where it stands.
        found: counts that were read; 0 for what is not finite or an overflow.
        value: median of the good pixels around it in the same frame, in counts.
        kind: what it is: a spike, an overflow, or not finite.
    """

    frame: int
    y: int
    x: int
    found: float
    value: float
    kind: Suspicion


@attrs.frozen(kw_only=True, eq=False)
class Course:
    """What the frames hold, compared with the history of the pixels.

    Attributes:
        photons: (n,) counts of each frame at good pixels, negative ones among them.
        glitched: (n,), frames with far more light than the others at many pixels.
        total: (N, N) counts over all frames that are not odd at many pixels.
        n_usual: (N, N), frames in which a pixel holds its usual largest count exactly.
        n_looked_at: frames that the last two are over.
        replaced: readings that stand out alone, and those that are none.
    """

    photons: npt.NDArray[np.float64]
    glitched: Mask
    total: Image
    n_usual: npt.NDArray[np.int64]
    n_looked_at: int
    replaced: tuple[Replaced, ...]


@attrs.frozen(kw_only=True, eq=False)
class _Frame:
    """One frame in which something is odd.

    Attributes:
        counts: (N, N).
        over: (N, N), what passes the ceiling that the history sets.
        lost: (N, N), what is not finite.
        full: (N, N), what is an overflow.
    """

    counts: Counts
    over: Mask
    lost: Mask
    full: Mask

    def replaced(self, frame: int, good: Mask, unit: float) -> list[Replaced]:
        """Find what stands out in it, and what takes the place of that and of what is no reading."""
        none = self.lost | self.full
        values = np.where(good & ~none, self.counts, -np.inf)
        over = np.argwhere(self.over & ~none)
        # Many together are light, such as that of a particle that only this frame has in its beam.
        alone = _alone(values, over[~is_of_many(over)], unit)
        values[tuple(alone.T)] = -np.inf
        kinds = (
            (Suspicion.SPIKES, alone),
            (Suspicion.OVERFLOW, np.argwhere(self.full)),
            (Suspicion.NOT_FINITE, np.argwhere(self.lost)),
        )
        return [
            Replaced(frame=frame, y=int(y), x=int(x), found=float(self.counts[y, x]), value=value, kind=kind)
            for kind, where in kinds
            for (y, x), value in zip(where, _medians(values, where), strict=True)
        ]


def course_of(readings: Readings, history: History, hot: Mask, lost: Mask) -> Course:
    """Go through a stack once more, with the history known.

    Args:
        readings: the stack.
        history: of its pixels.
        hot: (N, N), pixels that are no measure for those around them.
        lost: (n,), frames that are left out already.
    """
    good = readings.good & ~hot
    ceiling = _ceiling(history, good, len(readings.patterns))
    photons = np.zeros(len(readings.patterns))
    crowded = np.zeros(len(photons), dtype=bool)
    total, n_usual = np.zeros(good.shape), np.zeros(good.shape, dtype=np.int64)
    replaced: list[Replaced] = []
    for some, raw in readings.pieces():
        lost_here, full = readings.not_finite(raw), readings.overflows(raw)
        none = lost_here | full
        counts = readings.counts(raw, none)
        photons[some] = _signed(readings, raw, none, counts, good)
        over = (counts > ceiling) & good
        crowded[some] = over.sum(axis=(1, 2)) > _MOST_PIXELS * good.sum()
        used = ~(crowded[some] | lost[some])
        total += counts[used].sum(axis=0, dtype=np.float64)
        n_usual += (counts[used] == history.high.astype(np.float32)).sum(axis=0)
        wanted = used & (over | (none & good)).any(axis=(1, 2))
        for row in np.flatnonzero(wanted):
            faults = _Frame(counts=counts[row], over=over[row], lost=lost_here[row] & good, full=full[row] & good)
            replaced += faults.replaced(some.start + int(row), good, history.unit)
    usual = float(np.median(photons[~lost])) if not lost.all() else np.inf
    return Course(
        photons=photons,
        glitched=crowded & ~lost & (photons > _GLITCH_TIMES * usual),
        total=total,
        n_usual=n_usual,
        n_looked_at=int(np.count_nonzero(~crowded & ~lost)),
        replaced=tuple(replaced),
    )


def dark_frames(course: Course, lost: Mask, *, stuck: float) -> Mask:
    """Tell which frames hold no light, where the others do.

    Args:
        course: the frames.
        lost: (n,), frames that are left out already.
        stuck: counts in each frame that are none.
    """
    left = ~(lost | course.glitched)
    photons = course.photons - stuck
    for each in course.replaced:
        photons[each.frame] -= each.found - each.value
    usual = float(np.median(photons[left])) if left.any() else 0.0
    dark: Mask = left & (photons <= _DARK_SHARE * max(usual, 0.0))
    return dark


def _ceiling(history: History, good: Mask, n_frames: int) -> Image:
    """Give the count that a pixel passes only if something is odd: it and those that touch it never held as much."""
    from scipy.ndimage import maximum_filter  # noqa: PLC0415 - keeps `import ptycho_core` quick

    if n_frames < _FEWEST_FRAMES:
        return np.full(good.shape, np.inf)
    allowed = _TIMES_HISTORY * maximum_filter(np.where(good, history.high, 0.0), size=3, mode="nearest")
    ceiling: Image = allowed + _SIGMAS * np.sqrt(allowed * history.unit) + _EVENTS * history.unit
    return ceiling


def _signed(readings: Readings, raw: npt.NDArray[np.generic], none: Mask, counts: Counts, good: Mask) -> Image:
    """Sum each frame over the good pixels; noise about 0 has to cancel."""
    if raw.dtype.kind == "u" or readings.squared:
        sums: Image = counts.sum(axis=(1, 2), where=good, dtype=np.float64)
        return sums
    signed: Image = np.where(none, 0, raw).sum(axis=(1, 2), where=good, dtype=np.float64)
    return signed


def _alone(values: Image, where: npt.NDArray[np.intp], unit: float) -> npt.NDArray[np.intp]:
    """Find those of some pixels, (k, 2), of a frame that stand out from what is around; -inf is no reading."""
    values = values.copy()
    found = [where[:0]]
    while len(where):
        limit = bounds(_around(values, where), unit, times=(_TIMES_NEAR, _TIMES_FAR), events=_EVENTS)
        stands_out = values[tuple(where.T)] > limit
        if not stands_out.any():
            break
        found.append(where[stands_out])
        values[tuple(where[stands_out].T)] = -np.inf
        where = where[~stands_out]
    return np.concatenate(found)


def _around(values: Image, where: npt.NDArray[np.intp]) -> Image:
    """Give the pixels around some, (24, k) in the order of `OFFSETS`; -inf outside."""
    wide = np.pad(values, 2, constant_values=-np.inf)
    return np.stack([wide[where[:, 0] + 2 + dy, where[:, 1] + 2 + dx] for dy, dx in OFFSETS])


def _medians(values: Image, where: npt.NDArray[np.intp]) -> list[float]:
    """Give the median of the good pixels that touch each, else of those a step further, else 0."""
    medians = []
    for neighbours in _around(values, where).T:
        near, far = (part[np.isfinite(part)] for part in (neighbours[:TOUCHING], neighbours))
        pool = near if near.size else far
        medians.append(float(np.median(pool)) if pool.size else 0.0)
    return medians
