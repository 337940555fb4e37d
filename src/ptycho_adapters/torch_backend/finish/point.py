"""Object and probe as one vector."""

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
    """

    object: Tensor
    probe: Tensor

    def plus(self, factor: float, other: Point) -> Point:
        """Add a multiple of another point."""
        return Point(self.object + factor * other.object, self.probe + factor * other.probe)

    def times(self, factor: float) -> Point:
        """Scale."""
        return Point(factor * self.object, factor * self.probe)

    def dot(self, other: Point) -> float:
        """Inner product of all real and imaginary parts."""
        pairs = ((self.object, other.object), (self.probe, other.probe))
        both = [(torch.view_as_real(a).double() * torch.view_as_real(b).double()).sum() for a, b in pairs]
        return float(torch.stack(both).sum())
