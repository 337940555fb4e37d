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

from ptycho_adapters.common.bars import counted
from ptycho_adapters.torch_backend.finish.prior_share import prior_by_frequency
from ptycho_adapters.torch_backend.finish.slow_waves import SlowWaves
from ptycho_adapters.torch_backend.physics.canvas import add_patches, extract
from ptycho_adapters.torch_backend.physics.optics import exit_waves, light_of, sum_of_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ptycho_adapters.torch_backend.finish.point import Point
    from ptycho_adapters.torch_backend.finish.posterior import Part, Posterior
    from ptycho_core.results.uncertainty import PriorByFrequency

SAMPLES = 16
"""Errors that are drawn; their squares are averaged over neighbours too."""

_SMOOTHED_PX = 9
_SEED = 30_011
_LIT = 0.1  # of the largest light: pixels that say what the constant phase is
_SETTLED = 0.03  # of the residual in the preconditioner's norm: far below what so few samples leave open
_MOST_ROUNDS = 40
_RIDGE = 0.1  # of the slow waves' matrix, beside the one by pixels
_AT_ONCE = 2**24  # pixels of all samples that are solved for together
_OPAQUE = 1e-3  # amplitude under which a phase is not divided further


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


def error_bars(posterior: Posterior, point: Point, *, show_progress: bool = False) -> ErrorBars:
    """Say how far an object may be off.

    Args:
        posterior: counts and prior.
        point: object and probe that a finish came to.
        show_progress: on standard error.
    """
    curvature = Curvature(posterior, point)
    errors = _Errors(curvature, show_progress=show_progress)
    off = errors.variances(posterior.look(point).slope.object[None])
    by_pixel = curvature.by_pixel
    phase, amplitude = _smooth(curvature, off + errors.drawn(SAMPLES)).sqrt()
    share = 1.0 - curvature.light * (1.0 / by_pixel.along + 1.0 / by_pixel.across) / 2.0
    by_frequency = prior_by_frequency(curvature, show_progress=show_progress)
    return ErrorBars(phase=phase, amplitude=amplitude, prior_share=share, by_frequency=by_frequency)


def counts_variances(curvature: Curvature) -> Tensor:
    """Variances (2, pixels) of phase [rad²] and amplitude by the counts alone, the prior's object being the true one."""
    return _smooth(curvature, _Errors(curvature, show_progress=False).drawn(SAMPLES, by_counts_alone=True))


def _smooth(curvature: Curvature, variances: Tensor) -> Tensor:
    """Average variances (2, pixels) of phase and amplitude over neighbours, but for the edges of the light."""
    canvas, by_pixel = curvature.posterior.measured.canvas, curvature.by_pixel
    # What one pixel alone would leave open takes those edges; the ratio to it is smooth.
    guesses = torch.stack([0.5 / (by_pixel.across * curvature.brightness), 0.5 / by_pixel.along])
    ratio = (variances / guesses).reshape(2, canvas.height, canvas.width)
    smooth = avg_pool2d(ratio, _SMOOTHED_PX, stride=1, padding=_SMOOTHED_PX // 2, count_include_pad=False)
    return smooth.reshape(2, -1) * guesses


class Curvature:
    """The second derivative of the misfit, as the counts are expected to give it.

    Args:
        posterior: counts and prior.
        point: where.

    Attributes:
        light: (pixels,) float32, photons on each pixel.
        by_pixel: what a pixel alone would have.
        brightness: (pixels,) float32, squared amplitude of the object.
        lit: (pixels,) bool, pixels with much light.
    """

    def __init__(self, posterior: Posterior, point: Point) -> None:
        self.posterior, self.point = posterior, point
        light = self.light = posterior.light(point.probe)
        self.by_pixel = posterior.prior.weights.plus(light)
        self.brightness = point.object.abs().square().clamp_min(_OPAQUE**2)
        self.lit = light > _LIT * light.max()
        self._slow = SlowWaves(posterior, point).solver(_RIDGE)

    def __call__(self, ways: Tensor) -> Tensor:
        """Multiply ways (k, pixels), linear in their real and imaginary parts."""
        total = torch.stack([self.posterior.prior.pull(way) for way in ways])
        for part, probes, far in self._seen(len(ways)):
            where = part.where.expand(len(ways), -1, -1)
            patches = extract(ways, where, far.shape[-1])
            change = far.conj() * torch.fft.fft2(exit_waves(patches, probes), norm="ortho")
            add_patches(total, _back(probes, far, 2.0 * sum_of_modes(change).real), where)
        return total

    def divided(self, slopes: Tensor) -> Tensor:
        """Divide slopes (k, pixels) by it, roughly: by pixel, and by the slow waves."""
        by_pixel = self.posterior.prior.divided(slopes, self.light)
        return by_pixel + torch.stack([self._slow(slope) for slope in slopes])

    def solved(self, slopes: Tensor, *, show_progress: bool = False) -> Tensor:
        """Divide slopes (k, pixels) by it, as well as is worth while; some at a time."""
        at_once = max(1, _AT_ONCE // len(self.light))
        parts = [solved(self, some, self.divided, show_progress=show_progress) for some in slopes.split(at_once)]
        return torch.cat(parts)

    def disturbed(self, number: int, generator: torch.Generator, *, by_counts_alone: bool = False) -> Tensor:
        """Draw slopes (number, pixels) that the errors of counts and prior give, or those of the counts alone."""
        prior = self.posterior.prior
        pulls = [prior.pull(prior.error(generator)) for _ in range(number)]
        total = torch.stack(pulls) * (0.0 if by_counts_alone else 1.0)
        for part, probes, far in self._seen(number):
            noise = torch.randn(number, *part.counts.shape[1:], generator=generator).to(far.device)
            add_patches(total, _back(probes, far, noise), part.where.expand(number, -1, -1))
        return total

    def _seen(self, ways: int) -> Iterator[tuple[Part, Tensor, Tensor]]:
        """Go through the patterns: their probes, and far fields over the root of the rate, 0 where none is fitted."""
        size = self.posterior.measured.scan.size
        for part in self.posterior.parts(max(1, self.posterior.measured.batch_size // ways), self.point):
            probes = part.probes(self.point.probe)
            patches = extract(self.point.object[None], part.where, size)
            far = torch.fft.fft2(exit_waves(patches, probes), norm="ortho")
            weight = (part.fitted / (light_of(far) + self.posterior.floor(self.point))).sqrt()
            yield part, probes, far * weight[..., None, :, :]


class _Errors:
    def __init__(self, curvature: Curvature, *, show_progress: bool) -> None:
        self._curvature, self._show_progress = curvature, show_progress

    def drawn(self, number: int, *, by_counts_alone: bool = False) -> Tensor:
        """Draw errors and give the variances (2, pixels) of phase and amplitude."""
        generator = torch.Generator().manual_seed(_SEED)
        at_once = max(1, _AT_ONCE // len(self._curvature.light))
        total = torch.zeros(2, len(self._curvature.light), device=self._curvature.light.device)
        for first in range(0, number, at_once):
            some = min(at_once, number - first)
            slopes = self._curvature.disturbed(some, generator, by_counts_alone=by_counts_alone)
            total += some * self.variances(slopes)
        return total / number

    def variances(self, slopes: Tensor) -> Tensor:
        """Mean squares (2, pixels) of phase and amplitude of what slopes (k, pixels) do to the object."""
        curvature = self._curvature
        steps = curvature.solved(slopes, show_progress=self._show_progress)
        turned = curvature.point.object.conj() * steps
        lit, brightness = curvature.lit, curvature.brightness
        constant = turned.imag[:, lit].sum(dim=1, keepdim=True) / brightness[lit].sum()
        phase, amplitude = turned.imag / brightness - constant, turned.real / brightness.sqrt()
        return torch.stack([phase.square().mean(dim=0), amplitude.square().mean(dim=0)])


def sampled_variances(posterior: Posterior, point: Point, number: int) -> Tensor:
    """Variances (2, pixels) of phase [rad²] and amplitude over so many samples, each pixel by itself."""
    return _Errors(Curvature(posterior, point), show_progress=False).drawn(number)


def solved(
    matrix: Callable[[Tensor], Tensor], right: Tensor, divided: Callable[[Tensor], Tensor], *, show_progress: bool
) -> Tensor:
    """Solve for several right sides (k, pixels) by preconditioned conjugate gradients.

    Real and imaginary parts are unknowns of their own: matrix and preconditioner are linear in them, symmetric and
    positive.
    """
    answer, rest = torch.zeros_like(right), right
    ahead = way = divided(rest)
    length = start = _dot(rest, ahead)
    for _ in counted(_MOST_ROUNDS, "error bars", shown=show_progress):
        if bool((length <= _SETTLED**2 * start).all()):
            break
        curved = matrix(way)
        step = _ratio(length, _dot(way, curved))
        answer, rest = answer + step * way, rest - step * curved
        ahead = divided(rest)
        before, length = length, _dot(rest, ahead)
        way = ahead + _ratio(length, before) * way
    return answer


def _back(probes: Tensor, far: Tensor, values: Tensor) -> Tensor:
    """Carry values (k, b, N, N) on the detector back to patches of the object."""
    return sum_of_modes(probes.conj() * torch.fft.ifft2(far * values[..., None, :, :], norm="ortho"))


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Inner products (k,) float64 of all real and imaginary parts."""
    return (one.conj() * other).real.sum(dim=1, dtype=torch.float64)


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    """Divide (k,) by (k,), 0 by 0 giving 0; as a column of float32."""
    return torch.where(other > 0.0, one / other, torch.zeros_like(one)).float()[:, None]
