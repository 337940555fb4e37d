"""What is known of the object without the counts: it is near to the network's, as far as that errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.finish.tents import Tents


# The network's error on simulations that it never saw, of eleven kinds and doses (5 to 186,000 photons per pixel):
# pixel by pixel a variance of 0.1 over the root of the photons, and slow waves beside it, of which the phase does not
# get better with more light.
_FINE, _SURER, _BRIGHT = 8.0, 4.0, 500.0
_PHASE, _PHASE_OF_LIGHT = 3e-3, 0.15
_AMPLITUDE, _AMPLITUDE_OF_LIGHT = 2e-5, 2e-2
_LEAST = 0.01


@attrs.frozen(kw_only=True, eq=False)
class Prior:
    """The object is near to one, as far as its error allows.

    Attributes:
        object: (pixels,) complex64.
        weight: (pixels,) float32, one over the variance of the error that each pixel has for itself across the object.
        surer: how many times that the weight along the object is: of the amplitude beside the phase.
        slow: the error that many share; None if there is none.
    """

    object: Tensor
    weight: Tensor
    surer: float = 1.0
    slow: SlowError | None = None

    def pull(self, away: Tensor) -> Tensor:
        """Weigh a distance (pixels,) from the object: the slope of half its square in errors, linear in it."""
        unexplained = away if self.slow is None else away - self.slow.explains(self._weighed(away))
        return self._weighed(unexplained)

    def error(self, generator: torch.Generator) -> Tensor:
        """Draw an error (pixels,) of the object, as they are expected to be; the generator is of the CPU."""
        white = torch.randn(self.object.shape, dtype=self.object.dtype, generator=generator).to(self.object.device)
        by_pixel = self._parted(white, (self.surer * self.weight).rsqrt(), self.weight.rsqrt())
        return by_pixel if self.slow is None else by_pixel + self.slow.error(generator)

    def curvatures(self, light: Tensor) -> tuple[Tensor, Tensor]:
        """Return those (pixels,) along and across the object of each pixel for itself, where it has so many photons."""
        return light + self.surer * self.weight, light + self.weight

    def divided(self, slopes: Tensor, light: Tensor) -> Tensor:
        """Divide slopes (…, pixels) by the curvature of each pixel for itself."""
        along, across = self.curvatures(light)
        return self._parted(slopes, 1.0 / along, 1.0 / across)

    def _weighed(self, away: Tensor) -> Tensor:
        return self._parted(away, self.surer * self.weight, self.weight)

    def _parted(self, away: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Multiply the parts of (…, pixels) along and across the object; across alone where it is opaque."""
        if self.surer == 1.0:
            return across * away
        unit = torch.sgn(self.object)
        return across * away + (along - across) * (unit.conj() * away).real * unit


class SlowError:
    """Slow waves of amplitude and phase on an object, so large as they are expected to be.

    Args:
        tents: what they are made of.
        object_: (pixels,) complex64 that they are on.
        weight: (pixels,) float32, of the error of phase that each pixel has beside them.
        surer: how many times that the weight of the amplitude is.
        amplitude: variance of the heights of their amplitude.
        phase: variance of the heights of their phase, rad².
    """

    def __init__(  # noqa: PLR0913 - values and what they are of
        self, tents: Tents, object_: Tensor, weight: Tensor, *, surer: float = 1.0, amplitude: float, phase: float
    ) -> None:
        self._tents, self._object = tents, object_
        products = tents.products(weight * (object_ * object_.conj()).real)
        own = torch.eye(tents.nodes, dtype=torch.float64, device=object_.device)
        self._amplitude, self._phase = (
            torch.linalg.cholesky(times * products + own / (2.0 * variance))
            for times, variance in ((surer, amplitude), (1.0, phase))
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


def around(object_: Tensor, light: Tensor, typical: float, tents: Tents) -> Prior:
    """Return what a network's object says of the true one.

    Args:
        object_: (pixels,) complex64, the network's.
        light: (pixels,) float32, photons on each pixel; positive.
        typical: photons per pixel where the scan is lit.
        tents: of its slow waves.
    """
    weight = _FINE * light.sqrt() / (1.0 + typical / _BRIGHT) + _LEAST
    amplitude = _AMPLITUDE + _AMPLITUDE_OF_LIGHT / typical
    phase = _PHASE + _PHASE_OF_LIGHT / typical
    slow = SlowError(tents, object_, weight, surer=_SURER, amplitude=amplitude, phase=phase)
    return Prior(object=object_, weight=weight, surer=_SURER, slow=slow)
