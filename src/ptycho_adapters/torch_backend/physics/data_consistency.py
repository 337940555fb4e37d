"""What each pattern asks of the object: the step of an iterative solver, with a gradient of its own.

Autograd would keep every intermediate field and walk back through complex products that want no gradient. Only the
object does, so the way back is written out: two transforms, as on the way there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd.function import once_differentiable

from ptycho_adapters.torch_backend.physics.optics import exit_waves, sum_of_modes

if TYPE_CHECKING:
    from torch import Tensor
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
    changed: Tensor = _AskedChange.apply(patches, amplitude, probes, good_pixels, background)  # type: ignore[no-untyped-call]
    return changed


def exit_wave_excess(
    amplitude: Tensor, probes: Tensor, patches: Tensor, good_pixels: Tensor | None = None, background: float = 0.0
) -> Tensor:
    """Change of the exit waves (..., modes, N, N) that brings far field and background to the measured modulus."""
    return _Excess(amplitude, probes, patches, good_pixels, background).waves()


class _Excess:
    """The far field and how much of it is in excess.

    Attributes:
        far: (..., modes, N, N) far field.
        inverse: (..., N, N) one over the modulus of far field and background.
        measured: (..., N, N) measured modulus.
        factor: (..., N, N) measured over present modulus, less one; 0 at bad pixels.
    """

    def __init__(
        self, amplitude: Tensor, probes: Tensor, patches: Tensor, good_pixels: Tensor | None, background: float | Tensor
    ) -> None:
        self.far: Tensor = torch.fft.fft2(exit_waves(patches, probes), norm="ortho")
        self.inverse = torch.rsqrt(sum_of_modes((self.far * self.far.conj()).real) + (background + _OFFSET))
        self.measured = (amplitude.square() + _OFFSET).sqrt()
        self.factor = _where_good(self.measured * self.inverse - 1.0, good_pixels)

    def waves(self) -> Tensor:
        """Give the change of the exit waves."""
        waves: Tensor = torch.fft.ifft2(_each_mode(self.factor) * self.far, norm="ortho")
        return waves


class _AskedChange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        patches: Tensor,
        amplitude: Tensor,
        probes: Tensor,
        good_pixels: Tensor | None,
        background: float | Tensor,
    ) -> Tensor:
        """Give the change; only fields that the way back needs are kept."""
        if amplitude.requires_grad or probes.requires_grad:
            message = "asked_change has no gradient with respect to amplitude or probes; detach them"
            raise ValueError(message)
        excess = _Excess(amplitude, probes, patches, good_pixels, background)
        mask = () if good_pixels is None else (good_pixels,)
        ctx.save_for_backward(excess.far, excess.inverse, excess.factor, excess.measured, probes, *mask)
        return sum_of_modes(probes.conj() * excess.waves())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Adjoint of the derivative: far + dfar changes it by factor * dfar and, along far, by the factor's slope."""
        far, inverse, factor, measured, probes, *mask = ctx.saved_tensors  # type: ignore[attr-defined]
        asked = torch.fft.fft2(exit_waves(gradient, probes), norm="ortho")
        slope = _where_good(measured * inverse * inverse.square(), mask[0] if mask else None)
        along = slope * sum_of_modes((far.conj() * asked).real)
        back = torch.fft.ifft2(_each_mode(factor) * asked - _each_mode(along) * far, norm="ortho")
        return sum_of_modes(probes.conj() * back), None, None, None, None


def _where_good(values: Tensor, good_pixels: Tensor | None) -> Tensor:
    return values if good_pixels is None else values * good_pixels


def _each_mode(values: Tensor) -> Tensor:
    return values[..., None, :, :]
