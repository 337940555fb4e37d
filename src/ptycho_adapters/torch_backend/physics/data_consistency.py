"""What each pattern asks of the object: the step of an iterative solver, with a gradient of its own.

Autograd would keep every intermediate field and walk back through complex products that want no gradient. Only the
object does, so the way back is written out: two transforms, as on the way there.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ptycho_adapters.torch_backend.physics.optics import exit_waves, sum_of_modes

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

_OFFSET = 0.375  # photons per pixel: Anscombe's, the root of counts with it has nearly even variance and little bias


def asked_change(
    amplitude: Tensor,
    probes: Tensor,
    patches: Tensor,
    good_pixels: Tensor | None = None,
    background: float | Tensor = 0.0,
) -> Tensor:
    """Change of the object that each pattern asks for, times the light on it.

    The modulus of the far field is replaced by the measured one, shared among the modes in proportion; the change of
    the exit wave times the conjugate probe is the steepest descent of the squared misfit of moduli. Summed over
    patterns and divided by their summed light it is the least-squares step of the object (Odstrcil, Menzel &
    Guizar-Sicairos 2018, doi:10.1364/OE.26.003108).

    A modulus here is the root of photons + 3/8 (Anscombe 1948, doi:10.1093/biomet/35.3-4.246). Without that offset a
    pixel that expects a tenth of a photon and mostly counts none would ask for darkness at every look.

    Args:
        amplitude: (..., N, N) square root of counts, detector order.
        probes: (..., modes, N, N) complex64.
        patches: (..., N, N) complex64, the present object; the only one that may ask for a gradient.
        good_pixels: (N, N) float32, or what broadcasts to the amplitude, 0 where the detector says nothing; None means
            all are good.
        background: counts per pixel that do not come from the beam, a number or what broadcasts to the amplitude; they
            add to the intensity, not to the field.

    Returns:
        (..., N, N) complex64, in units of light times object.

    Raises:
        ValueError: a gradient is wanted through the amplitude or the probes.
    """
    asking = Asking(amplitude=amplitude, probes=probes, good_pixels=good_pixels, background=background)
    return asking.change(patches)


def exit_wave_excess(
    amplitude: Tensor, probes: Tensor, patches: Tensor, good_pixels: Tensor | None = None, background: float = 0.0
) -> Tensor:
    """Change of the exit waves (..., modes, N, N) that brings far field and background to the measured modulus."""
    asking = Asking(amplitude=amplitude, probes=probes, good_pixels=good_pixels, background=background)
    return asking.excess(patches)


@attrs.frozen(kw_only=True, eq=False)
class Asking:
    """Patterns that ask for a change, again and again: what does not hang on the object is worked out once.

    The transforms leave out the factors 1/N that make them orthonormal, each of them one more walk through the field:
    they are in `measured` and `_back`, which are multiplied to it anyway.

    Attributes:
        amplitude: as for `asked_change`, and so are the others.
        probes: of the patterns.
        good_pixels: of the detector, if not all are.
        background: beside the beam.
    """

    amplitude: Tensor
    probes: Tensor
    good_pixels: Tensor | None = None
    background: float | Tensor = 0.0

    def change(self, patches: Tensor) -> Tensor:
        """Give the change that the patterns ask for; see `asked_change`.

        Raises:
            ValueError: a gradient is wanted through the amplitude or the probes.
        """
        if self.amplitude.requires_grad or self.probes.requires_grad:
            message = "asked_change has no gradient with respect to amplitude or probes; detach them"
            raise ValueError(message)
        if torch.is_grad_enabled() and patches.requires_grad:
            changed: Tensor = _AskedChange.apply(patches, self)  # type: ignore[no-untyped-call]
            return changed
        far = self.far(patches)
        return self.returned(_each_mode(self.factor(self.inverse(far))) * far)

    def excess(self, patches: Tensor) -> Tensor:
        """Give the change of the exit waves (..., modes, N, N) that brings all to the measured modulus."""
        far = self.far(patches)
        waves: Tensor = torch.fft.ifft2(_each_mode(self.factor(self.inverse(far))) * far)
        return waves

    def far(self, patches: Tensor) -> Tensor:
        """Give the far field (..., modes, N, N), too large by N."""
        field: Tensor = torch.fft.fft2(exit_waves(patches, self.probes))
        return field

    def inverse(self, far: Tensor) -> Tensor:
        """Give one over the modulus (..., N, N) of far field and background, too small by N."""
        light = sum_of_modes((far * far.conj()).real)
        return (light + self._pixels * (self.background + _OFFSET)).rsqrt_()

    def factor(self, inverse: Tensor) -> Tensor:
        """Give measured over present modulus (..., N, N), less one; 0 at bad pixels."""
        return self.where_good(self.measured * inverse - 1.0)

    def returned(self, far: Tensor) -> Tensor:
        """Bring what a far field lacks back to the object (..., N, N), times the light on it."""
        waves: Tensor = torch.fft.ifft2(far, norm="forward")
        return sum_of_modes(self._back * waves)

    def where_good(self, values: Tensor) -> Tensor:
        """Give values (..., N, N), 0 at bad pixels."""
        return values if self.good_pixels is None else values * self.good_pixels

    @cached_property
    def measured(self) -> Tensor:
        """Measured modulus (..., N, N), too large by N."""
        return (self._pixels * (self.amplitude.square() + _OFFSET)).sqrt_()

    @cached_property
    def _back(self) -> Tensor:
        """What takes an exit wave, transformed there and back without a factor, to the object."""
        return self.probes.conj() / self._pixels

    @property
    def _pixels(self) -> int:
        return self.amplitude.shape[-2] * self.amplitude.shape[-1]


class _AskedChange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, patches: Tensor, asking: Asking) -> Tensor:
        """Give the change; only fields that the way back needs are kept."""
        far = asking.far(patches)
        inverse = asking.inverse(far)
        factor = asking.factor(inverse)
        ctx.asking = asking  # type: ignore[attr-defined]
        ctx.save_for_backward(far, inverse, factor)
        return asking.returned(_each_mode(factor) * far)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        """Adjoint of the derivative: far + dfar changes it by factor * dfar and, along far, by the factor's slope."""
        asking: Asking = ctx.asking  # type: ignore[attr-defined]
        far, inverse, factor = ctx.saved_tensors  # type: ignore[attr-defined]
        asked = asking.far(gradient)
        slope = asking.where_good(asking.measured * inverse * inverse.square())
        along = slope * sum_of_modes((far.conj() * asked).real)
        return asking.returned(_each_mode(factor) * asked - _each_mode(along) * far), None


def _each_mode(values: Tensor) -> Tensor:
    return values[..., None, :, :]
