"""How far an object that was finished may be off.

Around the most likely object, counts and prior leave an error open whose covariance is the inverse of the curvature of
the misfit: the Fisher matrix of the Poisson counts plus the prior's precision. Errors are drawn from it by disturbing
the counts and the prior as much as they err, and solving for what that does to the object (Papandreou & Yuille 2010,
"Gaussian sampling by local perturbations"). Where a descent ended early, or was refused, the object is not the most
likely one; its distance from there is added. The probe is taken as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ptycho_adapters.torch_backend.finish.curvature import AT_ONCE, Curvature
from ptycho_adapters.torch_backend.finish.prior_share import prior_by_frequency
from ptycho_core.results.uncertainty import PriorByFrequency

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.point import Point
    from ptycho_adapters.torch_backend.finish.posterior import Posterior

SAMPLES = 16
"""Errors that are drawn; their squares are averaged over neighbours too."""

_SMOOTHED_PX = 9
_SEED = 30_011


@attrs.frozen(kw_only=True, eq=False)
class ErrorBars:
    """Standard deviations by pixel, given the probe.

    Attributes:
        phase: (pixels,) float32 [rad], the constant phase being free.
        amplitude: (pixels,) float32.
        prior_share: (pixels,) float32, the prior's weight in each pixel's own curvature, mean of phase and amplitude.
        by_frequency: its share by spatial frequency, all that pixels share in it.
    """

    phase: Tensor
    amplitude: Tensor
    prior_share: Tensor
    by_frequency: PriorByFrequency


def error_bars(posterior: Posterior, point: Point) -> ErrorBars:
    """Say how far an object may be off.

    Args:
        posterior: counts and prior.
        point: object and probe that a finish came to.
    """
    curvature = Curvature(posterior, point)
    errors = _Errors(curvature)
    off = errors.variances(posterior.look(point).slope.object[None])
    by_pixel = curvature.by_pixel
    phase, amplitude = _smooth(curvature, off + errors.drawn(SAMPLES)).sqrt()
    share = 1.0 - curvature.light * (1.0 / by_pixel.along + 1.0 / by_pixel.across) / 2.0
    by_frequency = prior_by_frequency(curvature)
    return ErrorBars(phase=phase, amplitude=amplitude, prior_share=share, by_frequency=by_frequency)


def counts_variances(curvature: Curvature) -> Tensor:
    """Variances (2, pixels) of phase [rad²] and amplitude by the counts alone, if the prior's object is true."""
    return _smooth(curvature, _Errors(curvature).drawn(SAMPLES, by_counts_alone=True))


def _smooth(curvature: Curvature, variances: Tensor) -> Tensor:
    """Average variances (2, pixels) of phase and amplitude over neighbours, but for the edges of the light."""
    canvas, by_pixel = curvature.posterior.measured.canvas, curvature.by_pixel
    # What one pixel alone would leave open takes those edges; the ratio to it is smooth.
    guesses = torch.stack([0.5 / (by_pixel.across * curvature.brightness), 0.5 / by_pixel.along])
    ratio = (variances / guesses).reshape(2, canvas.height, canvas.width)
    smooth = avg_pool2d(ratio, _SMOOTHED_PX, stride=1, padding=_SMOOTHED_PX // 2, count_include_pad=False)
    return smooth.reshape(2, -1) * guesses


class _Errors:
    def __init__(self, curvature: Curvature) -> None:
        self._curvature = curvature

    def drawn(self, number: int, *, by_counts_alone: bool = False) -> Tensor:
        """Draw errors and give the variances (2, pixels) of phase and amplitude."""
        generator = torch.Generator().manual_seed(_SEED)
        at_once = max(1, AT_ONCE // len(self._curvature.light))
        total = torch.zeros(2, len(self._curvature.light), device=self._curvature.light.device)
        for first in range(0, number, at_once):
            some = min(at_once, number - first)
            slopes = self._curvature.disturbed(some, generator, by_counts_alone=by_counts_alone)
            total += some * self.variances(slopes)
        return total / number

    def variances(self, slopes: Tensor) -> Tensor:
        """Mean squares (2, pixels) of phase and amplitude of what slopes (k, pixels) do to the object."""
        curvature = self._curvature
        steps = curvature.solved(slopes)
        turned = curvature.point.object.conj() * steps
        lit, brightness = curvature.lit, curvature.brightness
        constant = turned.imag[:, lit].sum(dim=1, keepdim=True) / brightness[lit].sum()
        phase, amplitude = turned.imag / brightness - constant, turned.real / brightness.sqrt()
        return torch.stack([phase.square().mean(dim=0), amplitude.square().mean(dim=0)])


def sampled_variances(posterior: Posterior, point: Point, number: int) -> Tensor:
    """Variances (2, pixels) of phase [rad²] and amplitude over so many samples, each pixel by itself."""
    return _Errors(Curvature(posterior, point)).drawn(number)
