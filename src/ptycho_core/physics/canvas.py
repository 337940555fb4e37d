"""Where patches lie on an integer canvas: the one place that turns positions into pixels.

A patch of size n at position (y, x) starts at (y, x) − (n − 1)/2, so that a position is the centre of its patch.
A start that is not whole is split into a whole pixel and a fraction in [0, 1); bilinear interpolation then touches
the n + 1 pixels from the whole pixel on. Positions are (y, x), in object pixels.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError, raise_if_any


@attrs.frozen(kw_only=True)
class CanvasFrame:
    """A rectangle of whole pixels.

    Attributes:
        origin_px: (y, x) of pixel [0, 0], in the coordinates of the positions.
        shape: rows and columns.
    """

    origin_px: tuple[int, int] = attrs.field(default=(0, 0))
    shape: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False)
class Footprints:
    """Where each patch starts, split into whole pixels and fractions.

    Attributes:
        whole_px: (n, 2) int64, (y, x), in the coordinates of the positions.
        fraction: (n, 2) float64 in [0, 1).
        size: pixels along a side of the patch.
    """

    whole_px: npt.NDArray[np.int64]
    fraction: npt.NDArray[np.float64]
    size: int


def footprints(positions_px: npt.NDArray[np.floating], size: int) -> Footprints:
    """Split the start of each patch into a whole pixel and a fraction.

    Args:
        positions_px: (n, 2), (y, x) of the patch centres.
        size: pixels along a side of a patch, at least 1.

    Raises:
        ScanError: positions of another shape or not finite, or a size below 1.
    """
    positions = np.asarray(positions_px, dtype=np.float64)
    problems: list[Problem] = []
    if positions.ndim != 2 or positions.shape[1] != 2:
        problems.append(Problem(path="positions_px", expected="shape (n, 2)", found=f"shape {positions.shape}"))
    elif not np.isfinite(positions).all():
        problems.append(Problem(path="positions_px", expected="finite numbers", found="NaN or infinity"))
    if size < 1:
        problems.append(Problem(path="size", expected="at least 1 px", found=str(size)))
    raise_if_any(ScanError, "patch placement", problems)
    starts = positions - (size - 1) / 2
    whole = np.floor(starts)
    return Footprints(whole_px=whole.astype(np.int64), fraction=starts - whole, size=size)


def canvas_frame(positions_px: npt.NDArray[np.floating], size: int) -> CanvasFrame:
    """The smallest frame that holds the bilinear footprint (n + 1 pixels a side) of every patch.

    Args:
        positions_px: (n, 2), (y, x) of the patch centres; n >= 1.
        size: pixels along a side of a patch.

    Raises:
        ScanError: no positions, or positions that `footprints` refuses.
    """
    whole = footprints(positions_px, size).whole_px
    if len(whole) == 0:
        raise ScanError("patch placement", [Problem(path="positions_px", expected="at least one", found="none")])
    top, left = whole.min(axis=0)
    bottom, right = whole.max(axis=0) + size + 1
    return CanvasFrame(origin_px=(int(top), int(left)), shape=(int(bottom - top), int(right - left)))


def require_inside(prints: Footprints, frame: CanvasFrame) -> None:
    """Refuse patches of which a pixel with weight lies outside the frame.

    Raises:
        ScanError: at least one patch sticks out; the message counts them and names the first.
    """
    first = prints.whole_px - np.array(frame.origin_px)
    last = first + prints.size - 1 + (prints.fraction > 0)
    outside = np.flatnonzero(((first < 0) | (last >= np.array(frame.shape))).any(axis=1))
    if len(outside):
        worst = outside[0]
        rows, columns = zip(first[worst], last[worst], strict=True)
        height, width = frame.shape
        problem = Problem(
            path=f"positions_px[{worst}]",
            expected=f"a patch of {prints.size} px inside rows 0..{height - 1}, columns 0..{width - 1}",
            found=f"rows {rows[0]}..{rows[1]}, columns {columns[0]}..{columns[1]} ({len(outside)} patches stick out)",
            fix="give a larger object or canvas, or its true origin",
        )
        raise ScanError("patch placement", [problem])
