"""Whether positions and frames have the same axes, as far as the patterns alone can tell.

The centre of mass of a pattern is the slope of the object's phase, averaged under the beam. So over the scan it is the
gradient of something, and has no curl; with an axis that runs the other way, or with exchanged axes, it has. The four
squares of what a two-by-two matrix of derivatives is made of (curl, divergence and both shears) say which one is the
one that vanishes. Half a turn changes the sign of all and shows in none.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import attrs
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Real = npt.NDArray[np.float64]

_NEIGHBOURS = 8
_FEWEST = 9  # positions that can say anything
_IN_LINE = 0.05  # of two axes of a neighbourhood, below which it is a line
_CLEAR = 0.5  # of the next smallest curl, below which the smallest is one that vanishes


class Axes(StrEnum):
    """How the axes of positions and frames go together; each up to half a turn."""

    AS_GIVEN = "the same"
    MIRRORED = "one of them mirrored"
    EXCHANGED = "rows and columns exchanged"
    TURNED = "turned by a quarter"
    UNCLEAR = "not to be told"


@attrs.frozen(kw_only=True)
class AxesHint:
    """What the patterns say.

    Attributes:
        axes: how the axes go together.
        curl: what is left of the curl with each kind of axes, as a share of the largest; NaN where nothing is known.
    """

    axes: Axes
    curl: dict[Axes, float]


def axes_hint(positions_px: Real, centres_px: Real) -> AxesHint:
    """Find out which axes leave the least curl in the centres of mass of the patterns.

    Args:
        positions_px: (n, 2), (y, x) of the positions.
        centres_px: (n, 2), (y, x) of the centre of mass of each pattern.
    """
    known = (Axes.AS_GIVEN, Axes.MIRRORED, Axes.EXCHANGED, Axes.TURNED)
    slopes = _slopes(positions_px, centres_px) if len(positions_px) >= _FEWEST else np.zeros((0, 2, 2))
    (yy, yx), (xy, xx) = slopes.transpose(1, 2, 0)
    squares = [float(np.square(part).sum()) for part in (yx - xy, yx + xy, yy - xx, yy + xx)]
    largest = max(squares)
    if not 0.0 < largest < np.inf:
        return AxesHint(axes=Axes.UNCLEAR, curl=dict.fromkeys(known, float("nan")))
    curl = {axes: square / largest for axes, square in zip(known, squares, strict=True)}
    first, second = sorted(curl, key=curl.__getitem__)[:2]
    return AxesHint(axes=first if curl[first] < _CLEAR * curl[second] else Axes.UNCLEAR, curl=curl)


def _slopes(positions_px: Real, values: Real) -> Real:
    """Fit a plane to two values about each position: (m, 2, 2), derivative by [position axis, value]."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 - keeps `import ptycho_core` quick

    near = np.asarray(cKDTree(positions_px).query(positions_px, k=_NEIGHBOURS + 1)[1])
    steps, changes = (of[near] - of[near].mean(axis=1, keepdims=True) for of in (positions_px, values))
    spread = np.einsum("nki,nkj->nij", steps, steps)
    widths = np.linalg.eigvalsh(spread)
    flat = widths[:, 0] > _IN_LINE * widths[:, 1]
    slopes: Real = np.linalg.solve(spread[flat], np.einsum("nki,nkj->nij", steps, changes)[flat])
    return slopes
