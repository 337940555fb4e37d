"""A descent that remembers how slopes changed: L-BFGS (Nocedal & Wright 2006, doi:10.1007/978-0-387-40065-5)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.torch_backend.finish.point import Point
from ptycho_adapters.torch_backend.finish.posterior import Look

if TYPE_CHECKING:
    from collections.abc import Callable


REMEMBERED = 8
"""Changes that a descent keeps."""

_FIRST_LENGTH = 0.5  # of a step by the curvature alone, while nothing is remembered
_ENOUGH = 1e-4  # of the decrease that the slope promises
_SHORTEST = 1e-3


@attrs.frozen(eq=False)
class Place:
    """A point and what there is to see there."""

    point: Point
    look: Look


@attrs.frozen(eq=False)
class _Change:
    step: Point
    slope: Point
    along: float


class Descent:
    """Steps down from a place.

    Args:
        look: looks at a point.
        start: where to start.
        curved: divides a slope by the curvature, roughly.
    """

    def __init__(self, look: Callable[[Point], Look], start: Place, curved: Callable[[Point], Point]) -> None:
        self._look, self._curved = look, curved
        self.place = start
        self._changes: deque[_Change] = deque(maxlen=REMEMBERED)

    def step(self) -> bool:
        """Go down; False where it goes down no further."""
        before = self.place
        after = line_search(self._look, before, self._direction(), 1.0 if self._changes else _FIRST_LENGTH)
        if after is None:
            return False
        step, slope = after.point.plus(-1.0, before.point), after.look.slope.plus(-1.0, before.look.slope)
        along = step.dot(slope)
        if along > 0.0:
            self._changes.append(_Change(step, slope, along))
        self.place = after
        return True

    def _direction(self) -> Point:
        slope, shares = self.place.look.slope, []
        for change in reversed(self._changes):
            share = change.step.dot(slope) / change.along
            slope = slope.plus(-share, change.slope)
            shares.append(share)
        ahead = self._curved(slope)
        if self._changes:
            last = self._changes[-1]
            ahead = ahead.times(last.along / last.slope.dot(self._curved(last.slope)))
        for change, share in zip(self._changes, reversed(shares), strict=True):
            ahead = ahead.plus(share - change.slope.dot(ahead) / change.along, change.step)
        return ahead.times(-1.0)


def line_search(look: Callable[[Point], Look], start: Place, direction: Point, length: float) -> Place | None:
    """Look for a place along a direction that is lower enough, ever nearer; None if there is none.

    Args:
        look: looks at a point.
        start: where the direction starts.
        direction: where to go.
        length: how far to try first, in lengths of the direction.
    """
    promised = 2.0 * start.look.slope.dot(direction)
    if promised >= 0.0:
        return None
    while length > _SHORTEST:
        point = start.point.plus(length, direction)
        seen = look(point)
        rise = seen.misfit - start.look.misfit
        if rise <= _ENOUGH * length * promised:
            return Place(point, seen)
        # The lowest point of the parabola through both misfits with the slope that is known, within limits.
        lowest = -0.5 * promised * length**2 / (rise - promised * length)
        length = min(max(lowest, 0.1 * length), 0.5 * length)
    return None
