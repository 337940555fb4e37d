"""Error bars against what the counts do: two independent halves of them, finished from the same object.

Each count is split at random in two (binomial thinning: halves of Poisson counts are Poisson counts that know nothing
of each other; Leiner et al. 2023, doi:10.1080/01621459.2023.2270748). The prior, with the weight that half the light
asks for, is the same for both, and is known: what makes the two objects differ is the counts alone. So the difference
is held against the counts' part of the error that bars of half the light have, and not against the bars themselves.
That tests curvature, solver and convergence. Counts that scatter more than Poisson ones cannot be told in this way,
since their halves differ no more, nor can a prior that is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.curvature import Curvature

_WRONG = 1.3
"""Ratio of true errors to bars, or of bars to errors, from which on they are called wrong."""


@attrs.frozen(kw_only=True)
class ThinningCheck:
    """How far two halves of the counts lead apart, in what their bars say.

    Attributes:
        phase: root mean square over lit pixels; 1 if the bars are right, 2 if they are half of what they should be.
        amplitude: the same.
    """

    phase: float
    amplitude: float

    @property
    def wrong(self) -> bool:
        """Whether bars are clearly too short or too long."""
        return any(not 1.0 / _WRONG < each < _WRONG for each in (self.phase, self.amplitude))


def apart(curvature: Curvature, other: Tensor, variances: Tensor) -> ThinningCheck:
    """Hold the difference of two objects against the variance that each of them has.

    Args:
        curvature: around the first.
        other: (pixels,) complex64, the second.
        variances: (2, pixels), of phase [rad²] and amplitude of each, by what differs between them.
    """
    object_, lit = curvature.point.object, curvature.lit
    turn = torch.sgn((other[lit].conj() * object_[lit]).sum())
    phase = torch.angle(turn * other * object_.conj())
    phase = phase - (phase * curvature.brightness)[lit].sum() / curvature.brightness[lit].sum()
    amplitude = other.abs() - object_.abs()
    ratios = torch.stack([phase, amplitude])[:, lit].square() / (2.0 * variances[:, lit])
    in_phase, in_amplitude = ratios.mean(dim=1).sqrt().tolist()
    return ThinningCheck(phase=in_phase, amplitude=in_amplitude)
