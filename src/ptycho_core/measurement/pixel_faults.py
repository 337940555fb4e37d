"""Pixels that are at fault in all frames: hot, stuck, dead, and rows or columns without any light.

What a pixel may hold is judged by those around it. A speckle, or a direct beam, is the interference of light from all
of the probe, and the probe takes only part of its array: a peak is never one pixel, its neighbours share it. The edge
of a bright field may be sharp, but each of its pixels has at least three lit neighbours, at a corner too. Between the
zeros of an aperture's lobes they may have fewer, but then there are many lobes close together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptycho_core.measurement.pixel_history import Image, Mask

_NEAR, _FAR = 3, 6
_TIMES_NEAR, _TIMES_FAR, _TIMES_BEAM = 8.0, 30.0, (100.0, 1e4)
_SIGMAS, _EVENTS = 10.0, 20.0
_CHANCE = 1e-3
_FEW_FRAMES = 4
_MANY, _APART_PX = 5, 2.0
_SURE_EVENTS = 20.0
_DARK_SHARE, _GAP_SHARE = 0.01, 1e-3
_NARROWEST_BLOCK_PX, _LIT_EVENTS, _LIT_SIDE_SHARE = 7, 3.0, 0.5  # no disc, such as the hole of a ring, is such a square
_LARGEST_SPOT_PX, _WIDEST_SPOT_PX = 4, 2
_AROUND_AT_RIM = 5  # pixels around a single one at the rim of the frame

OFFSETS: tuple[tuple[int, int], ...] = tuple(
    sorted(
        ((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)),
        key=lambda offset: max(abs(offset[0]), abs(offset[1])),
    )
)
"""(y, x) of the 24 pixels around one, the 8 that touch it first."""

TOUCHING = 8
"""How many of them touch it."""


def around(image: npt.NDArray[np.floating], valid: Mask) -> Image:
    """Give the pixels around each, (24, N, N) in the order of `OFFSETS`; -inf for what is not valid or outside."""
    height, width = image.shape
    # Single precision: this is 24 times the frame, and nothing here hangs on the seventh digit.
    wide = np.pad(np.where(valid, image, -np.inf).astype(np.float32), 2, constant_values=-np.inf)
    return np.stack([wide[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dy, dx in OFFSETS])


def bounds(neighbours: Image, unit: float, *, times: tuple[float, float], events: float = _EVENTS) -> Image:
    """Give the count above which a pixel stands out from those around it.

    Args:
        neighbours: (24, ...) counts, the 8 that touch first; -inf where there is none.
        unit: counts of one event.
        times: factors over the third brightest of those that touch, and over the sixth brightest of all.
        events: how many a pixel needs where those around it are dark.

    Returns:
        (...) float64; infinite where there are no neighbours to tell.
    """
    near = np.partition(neighbours[:TOUCHING], -_NEAR, axis=0)[-_NEAR]
    far = np.partition(neighbours, -_FAR, axis=0)[-_FAR]
    # Beside a gap or the rim of the frame, what is lit may lie where nothing is known.
    known = np.isfinite(neighbours)
    near = np.where(known[:TOUCHING].all(axis=0), near, neighbours.max(axis=0))
    far = np.where(known.all(axis=0), far, np.inf)
    limits = [_bound(level, factor, unit, events) for level, factor in zip((near, far), times, strict=True)]
    return np.minimum(*limits)


def _bound(level: Image, factor: float, unit: float, events: float) -> Image:
    allowed = factor * np.maximum(level, 0.0)
    bound = allowed + _SIGMAS * np.sqrt(allowed * unit) + events * unit
    return np.where(np.isfinite(level), bound, np.inf)


def hot_pixels(level: Image, good: Mask, *, n_frames: int, unit: float) -> Mask:
    """Find pixels that hold many times the light of those around them.

    About the middle of the light the factor is larger: there a direct beam may be almost a single pixel.

    Args:
        level: (N, N) mean counts.
        good: (N, N), pixels to look at and to compare with.
        n_frames: frames that the mean is over.
        unit: counts of one event.
    """
    hot = np.zeros(level.shape, dtype=bool)
    if n_frames < _FEW_FRAMES:
        return hot
    total = level * n_frames
    while True:
        left = good & ~hot
        neighbours = around(total, left)
        inside = _near_beam(np.minimum(total, _third(neighbours)) * left)
        outer = bounds(neighbours, unit, times=(_TIMES_NEAR, _TIMES_FAR))
        inner = bounds(neighbours, unit, times=_TIMES_BEAM)
        more = left & (total > np.where(inside, inner, outer))
        more &= ~_of_many(more)
        if not more.any():
            return hot
        hot |= more


def _of_many(chosen: Mask) -> Mask:
    many = np.zeros_like(chosen)
    where = np.argwhere(chosen)
    many[tuple(where.T)] = is_of_many(where)
    return many


def is_of_many(where: npt.NDArray[np.intp]) -> Mask:
    """Tell which of some pixels, (k, 2), belong to a group of many that are at most two pixels from the next."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - keeps `import ptycho_core` quick
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - as above
    from scipy.spatial import cKDTree  # noqa: PLC0415 - as above

    if len(where) <= _MANY:
        return np.zeros(len(where), dtype=bool)
    pairs = cKDTree(where).query_pairs(_APART_PX, p=np.inf, output_type="ndarray")
    ones = np.ones(len(pairs), dtype=np.int8)
    _, group = connected_components(coo_array((ones, tuple(pairs.T)), shape=(len(where), len(where))), directed=False)
    many: Mask = np.bincount(group)[group] > _MANY
    return many


def third_brightest(image: Image) -> Image:
    """Give the third brightest of the pixels that touch each, (N, N)."""
    return _third(around(image, np.ones(image.shape, dtype=bool)))


def _third(neighbours: Image) -> Image:
    third: Image = np.partition(neighbours[:TOUCHING], -_NEAR, axis=0)[-_NEAR]
    return np.maximum(third, 0.0)


def _near_beam(light: Image) -> Mask:
    """Tell which pixels lie about the centre of the light, the frame taken for a ring in both directions."""
    size = light.shape[0]
    turn = np.exp(2j * np.pi * np.arange(size) / size)
    away = []
    for axis in (1, 0):
        angle = float(np.angle(np.sum(light.sum(axis=axis) * turn)))
        away.append((np.arange(size) - angle / (2 * np.pi) * size + size / 2) % size - size / 2)
    near: Mask = np.hypot(away[0][:, None], away[1][None, :]) <= max(2.0, size / 16)
    return near


def is_constant_by_chance(value: Image, n_frames: int) -> Mask:
    """Tell where shot noise may leave so many frames with one value, at one of the pixels of a frame."""
    from scipy.special import gammaln  # noqa: PLC0415 - keeps `import ptycho_core` quick

    counts = np.maximum(value, 1e-9)
    likeliest = counts * np.log(counts) - counts - gammaln(counts + 1.0)
    chance: Mask = n_frames * likeliest > math.log(_CHANCE / value.size)
    return chance


def dead_pixels(total: Image, good: Mask, *, unit: float) -> Mask:
    """Find single pixels and small spots that are dark although all around them is lit.

    Args:
        total: (N, N) counts over all frames.
        good: (N, N), pixels to look at and to compare with.
        unit: counts of one event.
    """
    from scipy.ndimage import binary_dilation, find_objects, label, median_filter  # noqa: PLC0415 - as above

    expected = median_filter(total, size=7, mode="nearest")
    dark = good & (total <= _DARK_SHARE * expected) & (expected > _SURE_EVENTS * unit)
    dead = np.zeros(total.shape, dtype=bool)
    touching = np.ones((3, 3), dtype=bool)
    spots, _ = label(dark, structure=touching)
    for number, box in enumerate(find_objects(spots), start=1):
        spot = spots == number
        narrow = min(side.stop - side.start for side in box) <= _WIDEST_SPOT_PX
        rim = binary_dilation(spot, structure=touching) & ~spot
        # Beside a gap, or in a corner, it may be the end of something dark.
        inside = all(side.start > 0 and side.stop < len(total) for side in box)
        closed = good[rim].all() and (inside or (spot.sum(), rim.sum()) == (1, _AROUND_AT_RIM))
        if not narrow or spot.sum() > _LARGEST_SPOT_PX or not closed:
            continue
        lit = float(total[rim].min())
        if lit > _SURE_EVENTS * unit and float(total[spot].max()) <= _DARK_SHARE * lit:
            dead |= spot
    return dead


def dead_blocks(total: Image, good: Mask, *, unit: float) -> Mask:
    """Find rectangles without a count that end in straight lit lines: a module, or a chip of one, that is dead.

    Light may end anywhere, but not along two sides at right angles. A dark band at the rim of a frame, from end to end,
    has one such side alone: there the frame was padded.

    Args:
        total: (N, N) counts over all frames.
        good: (N, N), pixels to look at and to compare with.
        unit: counts of one event.
    """
    from scipy.ndimage import binary_opening, find_objects, label  # noqa: PLC0415 - as above

    found = np.zeros(total.shape, dtype=bool)
    dark = good & (total < unit)
    spots, _ = label(binary_opening(dark, np.ones((_NARROWEST_BLOCK_PX,) * 2, dtype=bool)))
    for number, box in enumerate(find_objects(spots), start=1):
        if not (spots[box] == number).all():
            continue
        sides = _sides(total * good, box)
        lit = [np.mean(side >= _LIT_EVENTS * unit) >= _LIT_SIDE_SHARE for side in sides]
        if len(sides) > 1 and all(lit):
            found[box] = True
    return found & dark


def _sides(total: Image, box: tuple[slice, ...]) -> list[Image]:
    """Give the lines of pixels around a box, where the frame has them."""
    rows, columns = box
    level = [total[at, columns] for at in (rows.start - 1, rows.stop) if 0 <= at < len(total)]
    upright = [total[rows, at] for at in (columns.start - 1, columns.stop) if 0 <= at < len(total)]
    return level + upright


def gaps(total: Image, good: Mask, *, unit: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Find rows and columns that are dark from end to end between lit ones.

    A dark hole in the light has lit pixels to its left and right, and the dark rim of a detector is lit on one side
    only: neither is a gap.

    Args:
        total: (N, N) counts over all frames.
        good: (N, N), pixels to look at and to compare with.
        unit: counts of one event.

    Returns:
        The rows and the columns, ascending.
    """
    seen = np.where(good, total, 0.0)
    rows = _dark_lines(seen, good, unit)
    columns = _dark_lines(seen.T, good.T, unit)
    return rows, columns


def _dark_lines(seen: Image, good: Mask, unit: float) -> npt.NDArray[np.intp]:
    size = len(seen)
    sums = seen.sum(axis=1)
    known = np.asarray(good.any(axis=1))
    dark = np.zeros(size, dtype=bool)
    for width in range(1, max(2, size // 8) + 1):
        for first in range(1, size - width):
            inside = slice(first, first + width)
            before, behind = seen[first - 1], seen[first + width]
            expected = np.minimum(before, behind)[None] * good[inside]
            expects = expected.sum(axis=1)
            quiet = sums[inside] <= _GAP_SHARE * expects
            if quiet.all() and (expects > _SURE_EVENTS * unit)[known[inside]].all():
                dark[inside] |= known[inside]
    return np.flatnonzero(dark)
