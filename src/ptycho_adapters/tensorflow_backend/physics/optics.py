"""The differentiable forward model, in detector order, as that of the torch backend: DC at index 0, nothing is rolled.

Every function takes float32 with complex64, or float64 with complex128, and gives the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    import numpy as np

BACKGROUND_COUNTS = 1e-2
"""Counts per pixel under every expected rate: keeps the logarithm of a dark pixel finite."""

_NEAR = 0.5  # relative gap between rate and count below which log1p is used
_DARK = 1e-20  # far below any count, far above what a bright rate would divide down to zero


def fft2(waves: tf.Tensor) -> tf.Tensor:
    """Orthonormal transform of the last two axes."""
    return _scaled(tf.signal.fft2d(waves), 1.0 / _edge(waves))


def ifft2(waves: tf.Tensor) -> tf.Tensor:
    """Inverse of `fft2`."""
    return _scaled(tf.signal.ifft2d(waves), float(_edge(waves)))


def shift_probe(probe: tf.Tensor, shifts_px: tf.Tensor) -> tf.Tensor:
    """Translate a probe by fractions of a pixel through the Fourier shift theorem.

    Args:
        probe: (modes, N, N) complex.
        shifts_px: (..., 2) real, (y, x); content moves by +shift, periodically.

    Returns:
        (..., modes, N, N) complex.
    """
    ramps = subpixel_ramps(shifts_px, _edge(probe))
    return tf.signal.ifft2d(tf.signal.fft2d(probe) * ramps[..., None, :, :])


def subpixel_ramps(shifts_px: tf.Tensor, size: int) -> tf.Tensor:
    """Factors (..., size, size) on a Fourier transform that move its content by (..., 2) (y, x) pixels."""
    indices = [k if k < (size + 1) // 2 else k - size for k in range(size)]
    frequencies = tf.constant([k / size for k in indices], dtype=shifts_px.dtype)
    angles = -2.0 * math.pi * shifts_px[..., None] * frequencies
    ramps = tf.complex(tf.cos(angles), tf.sin(angles))
    return ramps[..., 0, :, None] * ramps[..., 1, None, :]


def exit_waves(patches: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Multiply object patches (..., N, N) by probes (..., modes, N, N): the wave leaving the sample."""
    return patches[..., None, :, :] * probes


def intensity(waves: tf.Tensor) -> tf.Tensor:
    """Squared modulus."""
    return tf.square(tf.math.real(waves)) + tf.square(tf.math.imag(waves))


def light_of(probes: tf.Tensor) -> tf.Tensor:
    """Intensity (..., N, N) of probes (..., modes, N, N): photons that each pixel receives."""
    return tf.reduce_sum(intensity(probes), axis=-3)


def detected_rate(waves: tf.Tensor) -> tf.Tensor:
    """Photons per pixel behind exit waves (..., modes, N, N): orthonormal far field, modes add in intensity."""
    return light_of(fft2(waves))


def expected_counts(patches: tf.Tensor, probes: tf.Tensor, background: float) -> tf.Tensor:
    """Expected counts (..., N, N) of patches under probes, in detector order, plus a constant background."""
    return detected_rate(exit_waves(patches, probes)) + background


def poisson_deviance(expected: tf.Tensor, counts: tf.Tensor, good_pixels: tf.Tensor | None = None) -> tf.Tensor:
    """Mean half deviance per good pixel: rate - n + n log(n / rate).

    Args:
        expected: (..., N, N) rates, all positive.
        counts: same shape, measured counts.
        good_pixels: (N, N) real, 1 for pixels that count; None means all.

    Returns:
        Scalar tensor.
    """
    gap = (counts - expected) / expected
    # Near a fit, log1p keeps the digits that the logarithm of a ratio near 1 has lost. The bounds only keep what is not
    # chosen, or is multiplied by n = 0, finite.
    log_ratio = tf.where(
        tf.abs(gap) < _NEAR,
        tf.math.log1p(tf.maximum(gap, -_NEAR)),
        tf.math.log(tf.maximum(counts, _DARK) / expected),
    )
    return good_mean(expected - counts + counts * log_ratio, good_pixels)


def amplitude_mae(expected: tf.Tensor, counts: tf.Tensor, good_pixels: tf.Tensor | None = None) -> tf.Tensor:
    """Mean absolute difference of amplitudes (square roots of counts) per good pixel."""
    return good_mean(tf.abs(tf.sqrt(expected) - tf.sqrt(counts)), good_pixels)


def good_mean(values: tf.Tensor, good_pixels: tf.Tensor | None) -> tf.Tensor:
    """Mean of values (..., N, N) over good pixels."""
    if good_pixels is None:
        return tf.reduce_mean(values)
    patterns = tf.size(values) // tf.size(good_pixels)
    return tf.reduce_sum(values * good_pixels) / (tf.reduce_sum(good_pixels) * tf.cast(patterns, values.dtype))


def visible_amplitude(amplitude: tf.Tensor, probes: tf.Tensor, good_pixels: tf.Tensor | None) -> tf.Tensor:
    """Amplitude (B, C, N, N) for a network, DC in the centre; bad pixels show the bare probe's far field."""
    if good_pixels is not None:
        amplitude = tf.where(good_pixels > 0, amplitude, tf.sqrt(detected_rate(probes)))
    return tf.stop_gradient(tf.signal.fftshift(amplitude, axes=(-2, -1)))


def sum_of_modes(values: tf.Tensor) -> tf.Tensor:
    """Add (..., modes, N, N) up over modes."""
    return tf.reduce_sum(values, axis=-3)


def as_complex(values: tf.Tensor) -> tf.Tensor:
    """Real values as complex ones of the same precision."""
    return tf.complex(values, tf.zeros_like(values))


def real_dtype(dtype: tf.DType) -> type[np.floating]:
    """Real type of a complex one."""
    found: type[np.floating] = dtype.real_dtype.as_numpy_dtype
    return found


def _edge(waves: tf.Tensor) -> int:
    return int(waves.shape[-1])


def _scaled(waves: tf.Tensor, factor: float) -> tf.Tensor:
    return waves * tf.constant(factor, dtype=waves.dtype)
