"""Frames as a detector writes them made into square ones with the beam in the middle, a few at a time.

What is done to a piece of frames does not depend on the others, so a stack may be gone through in pieces of any size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError
from ptycho_core.frozen import read_only
from ptycho_core.measurement.preparation.darks import less_dark
from ptycho_core.measurement.preparation.settings import Flip, Negatives, PreparationSettings

if TYPE_CHECKING:
    from ptycho_core.any_array import AnyArray

Mask = npt.NDArray[np.bool_]
Real = npt.NDArray[np.float64]
T = TypeVar("T", bound=np.generic)

_LARGEST = 2**32 - 1


@attrs.frozen(kw_only=True, eq=False)
class Corrections:
    """What is known about the detector, in the frames' own geometry.

    Attributes:
        bad: (H, W) bool, True where bad.
        dark: (H, W) float32, what it shows without light; None for nothing.
        flat: (H, W) float32, what each pixel makes of the same light, relative; frames are divided by it. None for all
            alike.
    """

    bad: Mask
    dark: npt.NDArray[np.float32] | None = None
    flat: npt.NDArray[np.float32] | None = None


@attrs.frozen(kw_only=True, eq=False)
class FramePlan:
    """Everything that decides what becomes of a frame.

    Attributes:
        settings: what is to be done.
        corrections: what is known about the detector.
        dtype: of the frames in the file.
        top: first row of the window in the turned frame; below 0 where there is padding.
        left: first column.
        size: side of the frames at the end.
        mask: (size, size), True where a pixel at the end has no reading, or one of those that it sums has none.
    """

    settings: PreparationSettings
    corrections: Corrections
    dtype: np.dtype[np.generic]
    top: int
    left: int
    size: int
    mask: Mask

    @property
    def result_dtype(self) -> np.dtype[np.generic]:
        """Number format of the frames at the end, one that a scan keeps."""
        corrected = self.corrections.dark is not None or self.corrections.flat is not None or self.settings.background
        if corrected or self.dtype.kind == "f":
            wide = self.dtype.kind == "f" and self.dtype.itemsize > 4
            return np.dtype(np.float64 if wide else np.float32)
        narrow = self.dtype.itemsize == 1 or (self.dtype.kind == "u" and self.dtype.itemsize == 2)
        if self.dtype.kind == "i" and self.settings.negatives is Negatives.KEEP:
            return np.dtype(np.float32 if self.dtype.itemsize <= 2 else np.float64)
        return np.dtype(np.uint16 if narrow and self.settings.bin == 1 else np.uint32)


def plan_frames(
    shape: tuple[int, int],
    dtype: np.dtype[np.generic],
    settings: PreparationSettings,
    corrections: Corrections,
    centre: tuple[float, float],
) -> FramePlan:
    """Settle where frames are cut, so that the beam comes to pixel size // 2.

    Args:
        shape: (H, W) of the frames in the file.
        dtype: their number format.
        settings: what is to be done.
        corrections: what is known about the detector.
        centre: (y, x) of the beam in the frames as they are in the file.

    Raises:
        ScanError: the beam lies outside of the frames, or what is left is smaller than any frame may be.
    """
    if not all(0 <= place <= side - 1 for place, side in zip(centre, shape, strict=True)):
        problem = Problem(path="centre", expected=f"a place inside of {shape[0]} x {shape[1]} px", found=f"{centre}")
        raise ScanError("preparation", [problem])
    turned_shape, (y, x) = _oriented_place(shape, centre, settings)
    factor = settings.bin
    size = settings.size or _largest_size(turned_shape, (y, x), factor)
    if size == 0:
        fix = "give a --size, which pads, or a larger part of the frames"
        found = f"the beam at ({y:g}, {x:g}) of {turned_shape[0]} x {turned_shape[1]} px"
        raise ScanError("preparation", [Problem(path="size", expected="room about the beam", found=found, fix=fix)])
    top, left = (_first_pixel(place, size, factor) for place in (y, x))
    cut = window(oriented(corrections.bad[np.newaxis], settings), top, left, size * factor, fill=True)
    mask = read_only(np.asarray(blocks(cut, factor).any(axis=(2, 4)))[0])
    return FramePlan(settings=settings, corrections=corrections, dtype=dtype, top=top, left=left, size=size, mask=mask)


def _largest_size(shape: tuple[int, int], place: tuple[float, float], factor: int) -> int:
    """Give the largest even size of which the window about a beam lies inside of the frames; 0 if none does."""
    for size in range(min(shape) // factor // 2 * 2, 0, -2):
        first = [_first_pixel(middle, size, factor) for middle in place]
        if all(start >= 0 and start + size * factor <= side for start, side in zip(first, shape, strict=True)):
            return size
    return 0


def _first_pixel(place: float, size: int, factor: int) -> int:
    return round(place - size // 2 * factor - (factor - 1) / 2)


def prepared_frames(frames: AnyArray, plan: FramePlan) -> AnyArray:
    """Give frames as the plan has them.

    Args:
        frames: (m, H, W) as they are in the file.
        plan: of `plan_frames`.

    Returns:
        (m, size, size) in `plan.result_dtype`; 0 where the mask is.

    Raises:
        ScanError: summed counts do not fit into 32 bits.
    """
    settings, known = plan.settings, plan.corrections
    values = _corrected(frames, plan)
    values = np.where(known.bad, values.dtype.type(0), values)
    if settings.negatives is Negatives.ZERO:
        values = np.maximum(values, values.dtype.type(0))
    cut = window(oriented(values, settings), plan.top, plan.left, plan.size * settings.bin, fill=False)
    sums = cut if settings.bin == 1 else _summed(cut, settings.bin)
    if plan.result_dtype.kind == "u" and sums.size and int(sums.max()) > _LARGEST:
        problem = Problem(
            path="bin",
            expected="summed counts below 2**32",
            found=f"{int(sums.max())}",
            fix="mask the brightest pixels",
        )
        raise ScanError("preparation", [problem])
    made = sums.astype(plan.result_dtype, copy=False)
    return np.where(plan.mask, made.dtype.type(0), made)


def _corrected(frames: AnyArray, plan: FramePlan) -> Real:
    settings, known = plan.settings, plan.corrections
    if known.dark is None and known.flat is None and not settings.background:
        return cast("Real", frames)
    dark = np.zeros(frames.shape[1:], np.float32) if known.dark is None else known.dark
    left = less_dark(frames, dark + np.float32(settings.background))
    if known.flat is not None:
        left /= known.flat
    return cast("Real", left)


def oriented(frames: npt.NDArray[T], settings: PreparationSettings) -> npt.NDArray[T]:
    """Turn frames (m, H, W) counter-clockwise, flip them and exchange their axes, as the settings say."""
    turned = np.rot90(frames, settings.turn_deg // 90, axes=(1, 2))
    axes = {Flip.NONE: (), Flip.ROWS: (1,), Flip.COLUMNS: (2,), Flip.BOTH: (1, 2)}[settings.flip]
    turned = np.flip(turned, axes) if axes else turned
    return turned.swapaxes(1, 2) if settings.transpose else turned


def _oriented_place(
    shape: tuple[int, int], place: tuple[float, float], settings: PreparationSettings
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Say where a place in a frame comes to, and the shape of the turned frame."""
    (height, width), (y, x) = shape, place
    for _ in range(settings.turn_deg // 90):
        (height, width), (y, x) = (width, height), (width - 1 - x, y)
    if settings.flip in (Flip.ROWS, Flip.BOTH):
        y = height - 1 - y
    if settings.flip in (Flip.COLUMNS, Flip.BOTH):
        x = width - 1 - x
    return ((width, height), (x, y)) if settings.transpose else ((height, width), (y, x))


def window(frames: npt.NDArray[T], top: int, left: int, side: int, *, fill: object) -> npt.NDArray[T]:
    """Cut a square window (m, side, side) whose first pixel is (top, left); what lies outside is filled."""
    cut = np.full((len(frames), side, side), fill, dtype=frames.dtype)
    height, width = frames.shape[1:]
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    if rows.start < rows.stop and columns.start < columns.stop:
        cut[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = frames[
            :, rows, columns
        ]
    return cut


def blocks(frames: npt.NDArray[T], factor: int) -> npt.NDArray[T]:
    """Look at frames (m, s * factor, s * factor) as blocks, (m, s, factor, s, factor)."""
    side = frames.shape[1] // factor
    return frames.reshape(len(frames), side, factor, side, factor)


def _summed(frames: AnyArray, factor: int) -> AnyArray:
    wide = np.float64 if frames.dtype.kind == "f" else np.int64
    summed: AnyArray = np.asarray(blocks(frames, factor).sum(axis=(2, 4), dtype=wide))
    return summed
