"""What the counts say of what a finish changes beside object and probe: moves of the patterns, and the background.

The background is positive: its logarithm is what changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.finish.stray import frequencies
from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.optics import exit_waves, light_of, sum_of_modes

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.point import Point
    from ptycho_adapters.torch_backend.finish.posterior import Posterior


@attrs.frozen(kw_only=True, eq=False)
class Known:
    """Half the Fisher information of the counts about what is beside object and probe, for itself.

    Attributes:
        moves: (n, 2) float32, per squared pixel; None where positions are known.
        dark: () float32; None where the background is known.
    """

    moves: Tensor | None
    dark: Tensor | None


def known_by_the_counts(posterior: Posterior, point: Point) -> Known:
    """Say how sharply the counts know moves and background where a finish starts."""
    moves, dark = [], torch.zeros((), device=point.object.device)
    size, background = posterior.measured.scan.size, posterior.background(point)
    for part in posterior.parts(posterior.measured.batch_size, point):
        patches, spectrum = extract(point.object[None], part.where, size), torch.fft.fft2(point.probe) * part.ramps
        far = torch.fft.fft2(exit_waves(patches, torch.fft.ifft2(spectrum)), norm="ortho")
        weight = part.fitted / (light_of(far) + posterior.floor(point))
        dark += background**2 * weight.sum() / 2.0
        if point.moves is None:
            continue
        for axis in frequencies(size, point.object.device):
            probes = torch.fft.ifft2(spectrum * axis)
            change = 2.0 * sum_of_modes(far.conj() * torch.fft.fft2(exit_waves(patches, probes), norm="ortho")).real
            moves.append((change.square() * weight)[0].sum(dim=(-2, -1)) / 2.0)
    along = None if point.moves is None else torch.stack([torch.cat(moves[axis::2]) for axis in (0, 1)], dim=1)
    return Known(moves=along, dark=None if point.dark is None else dark)


class Beside:
    """Divides slopes of moves and background by their curvature.

    Args:
        posterior: counts and prior.
        point: where a finish starts.

    Attributes:
        unknowns: how many numbers follow the noise of the counts: what the prior knows is not free to.
    """

    def __init__(self, posterior: Posterior, point: Point) -> None:
        self._stray, self._known = posterior.stray, known_by_the_counts(posterior, point)
        self.unknowns = 0.0 if self._known.dark is None else 1.0
        if self._known.moves is not None and self._stray is not None:
            free = self._known.moves / (self._known.moves + self._stray.stiffness)
            self.unknowns += self._stray.free * float(free.sum())

    def moves(self, slope: Tensor | None) -> Tensor | None:
        """Divide a slope (n, 2) of the moves."""
        if slope is None or self._known.moves is None or self._stray is None:
            return None
        return self._stray.allowed(slope / (self._known.moves + self._stray.stiffness))

    def dark(self, slope: Tensor | None) -> Tensor | None:
        """Divide a slope () of the background's logarithm."""
        return None if slope is None or self._known.dark is None else slope / self._known.dark
