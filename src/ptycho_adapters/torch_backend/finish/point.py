"""All that a finish changes, as one vector."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class Point:
    """Values, steps or slopes of all that a finish changes.

    Attributes:
        object: (pixels,) complex64.
        probe: (modes, N, N) complex64.
        moves: (n, 2) float32, by how many pixels (y, x) each pattern is moved; None where positions are known.
        dark: () float32, logarithm of the background in units of that of the start; None where it is known.
    """

    object: Tensor
    probe: Tensor
    moves: Tensor | None = None
    dark: Tensor | None = None

    def plus(self, factor: float, other: Point) -> Point:
        """Add a multiple of another point."""
        return Point(
            self.object + factor * other.object,
            self.probe + factor * other.probe,
            _plus(self.moves, factor, other.moves),
            _plus(self.dark, factor, other.dark),
        )

    def times(self, factor: float) -> Point:
        """Scale."""
        moves, dark = (None if each is None else factor * each for each in (self.moves, self.dark))
        return Point(factor * self.object, factor * self.probe, moves, dark)

    def dot(self, other: Point) -> float:
        """Inner product of all real and imaginary parts."""
        pairs = (
            (torch.view_as_real(self.object), torch.view_as_real(other.object)),
            (torch.view_as_real(self.probe), torch.view_as_real(other.probe)),
            (self.moves, other.moves),
            (self.dark, other.dark),
        )
        parts = [(a.double() * b.double()).sum() for a, b in pairs if a is not None and b is not None]
        return float(torch.stack(parts).sum())


def _plus(one: Tensor | None, factor: float, other: Tensor | None) -> Tensor | None:
    return one if one is None or other is None else one + factor * other
