"""The differentiable forward model, in detector order.

The detector's DC sits at index 0 here (`detector_order`), so that no array is rolled inside the training loop: an
intensity does not see a translation of the exit wave's origin, hence `fft2` without shifts gives the same rate as the
centred transform of `ptycho_core.physics.optics`. Space is never rolled: exit waves and patches stay centred.

Sub-pixel positions: a patch lives on the integer pixels of the canvas and the *probe* is moved by the remaining
fraction of a pixel, as a phase ramp in Fourier space. The object is never interpolated, so nothing is low-passed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND_COUNTS = 1e-2
"""Counts per pixel under every expected rate: keeps the logarithm of a dark pixel finite."""


def detector_order(patterns: Tensor) -> Tensor:
    """Move DC from index n//2 to index 0 in the last two axes."""
    rolled: Tensor = torch.fft.ifftshift(patterns, dim=(-2, -1))
    return rolled


def split_positions(positions_px: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Integer start pixel and remaining fraction of patches centred at the given positions.

    Args:
        positions_px: (..., 2) float64, (y, x) of the patch centre in object pixels.
        size: patch edge in px.

    Returns:
        starts (..., 2) int64, the first pixel of each patch; fractions (..., 2) float32 in [-0.5, 0.5): the probe is
        to be moved by them.
    """
    first = positions_px.to(torch.float64) - (size - 1) / 2
    starts = torch.floor(first + 0.5)
    return starts.to(torch.int64), (first - starts).to(torch.float32)


def shift_probe(probe: Tensor, shifts_px: Tensor) -> Tensor:
    """Translate a probe by fractions of a pixel through the Fourier shift theorem.

    Args:
        probe: (modes, N, N) complex64.
        shifts_px: (..., 2) real, (y, x); content moves by +shift, periodically.

    Returns:
        (..., modes, N, N) complex64.
    """
    ramps = subpixel_ramps(shifts_px, probe.shape[-1])
    shifted: Tensor = torch.fft.ifft2(torch.fft.fft2(probe) * ramps[..., None, :, :])
    return shifted


def subpixel_ramps(shifts_px: Tensor, size: int) -> Tensor:
    """Factors (..., size, size) complex64 on a Fourier transform that move its content by (..., 2) (y, x) pixels."""
    frequencies = torch.fft.fftfreq(size, device=shifts_px.device, dtype=torch.float32)
    angles = -2.0 * math.pi * shifts_px.to(torch.float32)[..., None] * frequencies
    ramps = torch.polar(torch.ones_like(angles), angles)
    return ramps[..., 0, :, None] * ramps[..., 1, None, :]


def beam_slope(beam_px: tuple[int, int], size: int) -> Tensor:
    """Slope of phase (size, size) complex64, 1 at the middle, that moves a probe's far field by (y, x) pixels."""
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    angles = 2.0 * math.pi / size * (beam_px[0] * place[:, None] + beam_px[1] * place)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def exit_waves(patches: Tensor, probes: Tensor) -> Tensor:
    """Multiply object patches (..., N, N) by probes (..., modes, N, N): the wave leaving the sample."""
    return patches[..., None, :, :] * probes


def light_of(probes: Tensor) -> Tensor:
    """Intensity (..., N, N) of probes (..., modes, N, N): photons that each pixel receives."""
    return sum_of_modes((probes * probes.conj()).real).contiguous()


def sum_of_modes(values: Tensor) -> Tensor:
    """Add (..., modes, N, N) up over modes; a lone mode is handed on without a copy."""
    return values.squeeze(-3) if values.shape[-3] == 1 else values.sum(dim=-3)


def detected_rate(waves: Tensor) -> Tensor:
    """Photons per pixel behind exit waves (..., modes, N, N): orthonormal far field, modes add in intensity."""
    return light_of(torch.fft.fft2(waves, norm="ortho"))


def expected_counts(patches: Tensor, probes: Tensor, background: float) -> Tensor:
    """Expected counts (..., N, N) of patches under probes, in detector order, plus a constant background."""
    return detected_rate(exit_waves(patches, probes)) + background


def poisson_deviance(expected: Tensor, counts: Tensor, good_pixels: Tensor | None = None) -> Tensor:
    """Mean half deviance per good pixel: rate - n + n log(n / rate).

    It has the gradient of the Poisson negative log-likelihood, is zero for a perfect fit and about 1/2 at the noise
    floor of bright pixels.

    Args:
        expected: (..., N, N) rates, all positive.
        counts: same shape, measured counts.
        good_pixels: (N, N) float, 1 for pixels that count; None means all.

    Returns:
        Scalar tensor.
    """
    return _good_mean(half_deviance(expected, counts), good_pixels)


def half_deviance(expected: Tensor, counts: Tensor) -> Tensor:
    """Half deviance of each pixel: rate - n + n log(n / rate), of positive rates and counts of the same shape."""
    # The logarithm of 1 + gap keeps the digits that that of a ratio near 1 has lost: a bright pixel's deviance is the
    # small difference of large terms. Where the ratio is lost in the 1, its term is lost in the rate; the clamp keeps
    # finite what is multiplied by n = 0.
    gap = ((counts - expected) / expected).clamp_min(torch.finfo(expected.dtype).eps - 1.0)
    return expected - counts + counts * torch.log1p(gap)


def amplitude_mae(expected: Tensor, counts: Tensor, good_pixels: Tensor | None = None) -> Tensor:
    """Mean absolute difference of amplitudes (square roots of counts) per good pixel."""
    return _good_mean((expected.sqrt() - counts.sqrt()).abs(), good_pixels)


def _good_mean(values: Tensor, good_pixels: Tensor | None) -> Tensor:
    if good_pixels is None:
        return values.mean()
    patterns = values.numel() // good_pixels.numel()
    return (values * good_pixels).sum() / (good_pixels.sum() * patterns)


def back_project(amplitude: Tensor, probes: Tensor, regularization: float = 0.02) -> Tensor:
    """First object estimate: measured amplitude with the bare probe's far-field phase, divided by the probe.

    A regularised division (Wiener) keeps dark parts of the probe from exploding.

    Args:
        amplitude: (..., N, N) square root of counts, detector order.
        probes: (..., modes, N, N) complex64; the first mode lends its phase.
        regularization: share of the probe's peak intensity added to the divisor.

    Returns:
        (..., N, N) complex64 patches; about 1 for a transparent object, about 0 where the probe is dark.
    """
    main = probes[..., 0, :, :]
    far: Tensor = torch.fft.fft2(main, norm="ortho")
    wave: Tensor = torch.fft.ifft2(amplitude * torch.sgn(far), norm="ortho")
    intensity = main.real.square() + main.imag.square()
    floor = regularization * intensity.amax(dim=(-2, -1), keepdim=True)
    return main.conj() * wave / (intensity + floor)


@torch.no_grad()
def visible_amplitude(amplitude: Tensor, probes: Tensor, good_pixels: Tensor | None) -> Tensor:
    """Amplitude for a network, DC in the centre; bad pixels show the bare probe's far field.

    Args:
        amplitude: (B, C, N, N) float32, square root of counts, detector order.
        probes: (B, C, modes, N, N) complex64.
        good_pixels: (N, N) float32, detector order, or None.

    Returns:
        (B, C, N, N) float32.
    """
    if good_pixels is not None:
        amplitude = torch.where(good_pixels > 0, amplitude, detected_rate(probes).sqrt())
    centred: Tensor = torch.fft.fftshift(amplitude, dim=(-2, -1))
    return centred
