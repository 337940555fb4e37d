"""Where patterns lie, as far as that may change: around where the stage is said to be.

Moves of all patterns and a shift of the object are one and the same, so that the mean of the moves is held. Each is
taken for a draw from one distribution.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor


@attrs.frozen(kw_only=True, eq=False)
class Stray:
    """How far patterns are off where the stage is said to be, and how they may move on.

    Attributes:
        px: (n, 2) float32, (y, x), where they start from.
        spread_px: standard deviation of each number.
        ways: (n, k) float32, orthonormal: what the moves of an axis are made of; None if all are free but their mean.
    """

    px: Tensor
    spread_px: float
    ways: Tensor | None = None

    def pull(self, moves: Tensor) -> Tensor:
        """Half the slope (n, 2) of half the squared distance from the stage in standard deviations."""
        return self.stiffness * (self.px + moves)

    @property
    def stiffness(self) -> float:
        """Half of one over the variance of each number."""
        return 0.5 / self.spread_px**2

    def allowed(self, moves: Tensor) -> Tensor:
        """Project (n, 2) on what may move."""
        return moves - moves.mean(dim=0) if self.ways is None else self.ways @ (self.ways.T @ moves)

    @property
    def free(self) -> float:
        """How many of the numbers that patterns have can move, as a share."""
        n = len(self.px)
        return (n - 1 if self.ways is None else self.ways.shape[1]) / n


def ways_of_the_stage(places_px: Tensor) -> Tensor:
    """What a linear map about the mean moves places (n, 2) by, along each axis: (n, 2) orthonormal, float32."""
    ways: Tensor = torch.linalg.qr((places_px - places_px.mean(dim=0)).double()).Q.float()
    return ways


def frequencies(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factors (N, 1) and (1, N) complex64 on a probe's transform that give its derivative by a move along y and x."""
    along = -2j * torch.pi * torch.fft.fftfreq(size, device=device)
    return along[:, None], along[None]
