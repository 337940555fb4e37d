"""The curvature of a misfit around a point, and division by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ptycho_adapters.common.bars import counted
from ptycho_adapters.torch_backend.finish.slow_waves import SlowWaves
from ptycho_adapters.torch_backend.physics.canvas import add_patches, extract
from ptycho_adapters.torch_backend.physics.optics import exit_waves, light_of, sum_of_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ptycho_adapters.torch_backend.finish.point import Point
    from ptycho_adapters.torch_backend.finish.posterior import Part, Posterior

AT_ONCE = 2**24
"""Pixels of all samples that are solved for together."""

_LIT = 0.1  # of the largest light: pixels that say what the constant phase is
_SETTLED = 0.03  # of the residual in the preconditioner's norm: far below what so few samples leave open
_MOST_ROUNDS = 40
_RIDGE = 0.1  # of the slow waves' matrix, beside the one by pixels
_OPAQUE = 1e-3  # amplitude under which a phase is not divided further


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

    def solved(self, slopes: Tensor) -> Tensor:
        """Divide slopes (k, pixels) by it, as well as is worth while; some at a time."""
        at_once = max(1, AT_ONCE // len(self.light))
        parts = [solved(self, some, self.divided) for some in slopes.split(at_once)]
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


def solved(matrix: Callable[[Tensor], Tensor], right: Tensor, divided: Callable[[Tensor], Tensor]) -> Tensor:
    """Solve for several right sides (k, pixels) by preconditioned conjugate gradients.

    Real and imaginary parts are unknowns of their own: matrix and preconditioner are linear in them, symmetric and
    positive.
    """
    answer, rest = torch.zeros_like(right), right
    ahead = way = divided(rest)
    length = start = _dot(rest, ahead)
    for _ in counted(_MOST_ROUNDS, "error bars"):
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
