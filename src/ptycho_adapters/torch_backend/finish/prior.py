"""What is known of the object without the counts: it is near to the network's, as far as that errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

if TYPE_CHECKING:
    from ptycho_adapters.common.prior_law import PriorLaw
    from ptycho_adapters.torch_backend.finish.tents import Tents


_AROUND_PX, _LEAST_BENT = 5, 1e-4


@attrs.frozen(kw_only=True, eq=False)
class Weights:
    """One over the variance of the error that each pixel has for itself.

    Attributes:
        along: (pixels,) float32, of its part along the object: the amplitude.
        across: (pixels,) float32, of the part across it: the phase.
    """

    along: Tensor
    across: Tensor

    @classmethod
    def same(cls, weight: Tensor) -> Weights:
        """Weigh both alike."""
        return cls(along=weight, across=weight)

    def plus(self, light: Tensor) -> Weights:
        """Return the curvatures of pixels that so many photons (pixels,) say something of too."""
        return Weights(along=light + self.along, across=light + self.across)

    def times(self, away: Tensor, object_: Tensor) -> Tensor:
        """Multiply the parts of (…, pixels) along and across an object; where it is opaque, as across."""
        unit = torch.sgn(object_)
        return self.across * away + (self.along - self.across) * (unit.conj() * away).real * unit

    def inverse(self) -> Weights:
        """Divide instead of multiplying."""
        return Weights(along=1.0 / self.along, across=1.0 / self.across)


@attrs.frozen(kw_only=True, eq=False)
class Prior:
    """The object is near to one, as far as its error allows.

    Attributes:
        object: (pixels,) complex64.
        weights: of the error that each pixel has for itself.
        slow: the error that many share; None if there is none.
    """

    object: Tensor
    weights: Weights
    slow: SlowError | None = None

    def pull(self, away: Tensor) -> Tensor:
        """Weigh a distance (pixels,) from the object: the slope of half its square in errors, linear in it."""
        unexplained = away if self.slow is None else away - self.slow.explains(self.weights.times(away, self.object))
        return self.weights.times(unexplained, self.object)

    def error(self, generator: torch.Generator) -> Tensor:
        """Draw an error (pixels,) of the object, as they are expected to be; the generator is of the CPU."""
        white = torch.randn(self.object.shape, dtype=self.object.dtype, generator=generator).to(self.object.device)
        deviations = Weights(along=self.weights.along.rsqrt(), across=self.weights.across.rsqrt())
        by_pixel = deviations.times(white, self.object)
        return by_pixel if self.slow is None else by_pixel + self.slow.error(generator)

    def divided(self, slopes: Tensor, light: Tensor) -> Tensor:
        """Divide slopes (…, pixels) by the curvature of each pixel for itself, with so many photons (pixels,) on it."""
        return self.weights.plus(light).inverse().times(slopes, self.object)


class SlowError:
    """Slow waves of amplitude and phase on an object, so large as they are expected to be.

    Args:
        tents: what they are made of.
        object_: (pixels,) complex64 that they are on.
        weights: of the error that each pixel has beside them.
        amplitude: variance of the heights of their amplitude.
        phase: variance of the heights of their phase, rad².
    """

    def __init__(self, tents: Tents, object_: Tensor, weights: Weights, *, amplitude: float, phase: float) -> None:
        self._tents, self._object = tents, object_
        brightness = (object_ * object_.conj()).real
        own = torch.eye(tents.nodes, dtype=torch.float64, device=object_.device)
        self._amplitude, self._phase = (
            torch.linalg.cholesky(tents.products(weight * brightness) + own / (2.0 * variance))
            for weight, variance in ((weights.along, amplitude), (weights.across, phase))
        )
        self.stiffness = (1.0 / amplitude, 1.0 / phase)

    def explains(self, weighed: Tensor) -> Tensor:
        """Return what these waves most likely are of a distance (pixels,) that is given by its weighed values."""
        asked = self._tents.collect(self._object.conj() * weighed)
        amplitude, phase = (
            torch.cholesky_solve(part.double()[:, None], factor)[:, 0].float()
            for part, factor in ((asked.real, self._amplitude), (asked.imag, self._phase))
        )
        return self._tents.spread(torch.complex(amplitude, phase)) * self._object

    def error(self, generator: torch.Generator) -> Tensor:
        """Draw such waves (pixels,); the generator is of the CPU."""
        amplitude, phase = (
            torch.randn(self._tents.nodes, generator=generator) / stiffness**0.5 for stiffness in self.stiffness
        )
        return self._tents.spread(torch.complex(amplitude, phase).to(self._object.device)) * self._object


def around(object_: Tensor, light: Tensor, typical: float, tents: Tents, law: PriorLaw) -> Prior:
    """Return what a network's object says of the true one.

    Args:
        object_: (pixels,) complex64, the network's.
        light: (pixels,) float32, photons on each pixel; positive.
        typical: photons per pixel where the scan is lit.
        tents: of its slow waves.
        law: by which the network errs.
    """
    bend = bent(object_.reshape(tents.rows.shape[1], tents.columns.shape[1]))
    # Errors of neighbours lie together, so that each says less than its size by itself.
    together = 1.0 + (typical / law.bright_photons) ** law.together_by_light
    weights = Weights(
        along=light**law.amplitude_by_light / (law.fine_amplitude * bend**law.amplitude_by_bent * together),
        across=light**law.phase_by_light / (law.fine_phase * bend**law.phase_by_bent * together),
    )
    amplitude = law.slow_amplitude + law.slow_amplitude_of_light / typical
    phase = law.slow_phase + law.slow_phase_of_light / typical
    slow = SlowError(tents, object_, weights, amplitude=amplitude, phase=phase)
    return Prior(object=object_, weights=weights, slow=slow)


def bent(object_: Tensor) -> Tensor:
    """Mean square of second differences around each pixel: (pixels,)."""
    padded = torch.cat([object_[:1], object_, object_[-1:]])
    down = torch.diff(padded, n=2, dim=0).abs().square()
    padded = torch.cat([object_[:, :1], object_, object_[:, -1:]], dim=1)
    right = torch.diff(padded, n=2, dim=1).abs().square()
    around = avg_pool2d((down + right)[None], _AROUND_PX, stride=1, padding=_AROUND_PX // 2, count_include_pad=False)
    return around.reshape(-1) + _LEAST_BENT
