"""Fourier ring correlation of two images, with its cut-off frequencies in cycles per pixel."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

_HANN_SPREAD = 35.0 / 18.0  # coefficients along a ring, over which the window spreads what is independent
_NEARLY_ONE = 1.0 - 1e-12


@attrs.frozen(kw_only=True, eq=False)
class RingCorrelation:
    """How far two images agree, ring by ring in frequency.

    Attributes:
        frequency_per_px: (r,), ring centres from 1/n up to 1/2, cycles per pixel; the mean (frequency 0) is left out.
        correlation: (r,), in [-1, 1]; 0 where an image has no energy.
        half_bit: (r,), the half-bit information threshold for the samples of each ring.
        frc50_per_px: first crossing of 1/2 by the smoothed curve; 0.5 (Nyquist) if it never falls below.
        half_bit_per_px: first crossing of the half-bit threshold, likewise.
        independent: (r,), how many coefficients of each ring are independent of each other.
    """

    frequency_per_px: npt.NDArray[np.float64]
    correlation: npt.NDArray[np.float64]
    half_bit: npt.NDArray[np.float64]
    frc50_per_px: float
    half_bit_per_px: float
    independent: npt.NDArray[np.float64]

    def band(self, deviations: float = 1.96) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give the ends (r,) of the interval that so many coefficients leave open; 95 % by default.

        The inverse hyperbolic tangent of a correlation of n pairs of complex numbers has a variance of 1 / (2 n - 3)
        (R. A. Fisher, Metron 1, 3 (1921), two real pairs each). What images share in error, it does not know.

        Args:
            deviations: half its width in standard deviations.
        """
        half = deviations / np.sqrt(np.maximum(2.0 * self.independent - 3.0, 1.0))
        middle = np.arctanh(np.clip(self.correlation, -_NEARLY_ONE, _NEARLY_ONE))
        return np.tanh(middle - half), np.tanh(middle + half)


def frc(a: npt.NDArray[np.inexact], b: npt.NDArray[np.inexact], *, smooth_rings: int = 3) -> RingCorrelation:
    """Correlate two square images ring by ring: Re Σ A·conj(B) / √(Σ|A|²·Σ|B|²).

    The mean is removed and a Hann window applied, so that neither the mean nor the seam of the periodic continuation
    passes for agreement. The real part is taken: a phase between the images counts as disagreement. Half-bit
    threshold: van Heel and Schatz, J. Struct. Biol. 151, 250 (2005), with the pixels of a ring as its samples,
    halved for a pair of real images, whose transforms are symmetric.

    Args:
        a: real or complex, (n, n), n >= 8.
        b: the same shape.
        smooth_rings: odd number of neighbouring rings averaged before the crossings are looked up; 1 for none.

    Raises:
        ValueError: not square, below 8 px, shapes that differ, values not finite, or an even number of rings.
    """
    _check(a, b, smooth_rings)
    n = a.shape[0]
    spectrum_a, spectrum_b = _spectrum(a), _spectrum(b)
    offset = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(offset[:, None], offset[None, :])).astype(np.int64).ravel()
    last = n // 2

    def per_ring(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums: npt.NDArray[np.float64] = np.bincount(ring, weights=values.ravel()).astype(np.float64)
        return sums[1 : last + 1]

    shared = per_ring((spectrum_a * spectrum_b.conj()).real)
    energy = np.sqrt(per_ring(np.abs(spectrum_a) ** 2) * per_ring(np.abs(spectrum_b) ** 2))
    correlation = np.divide(shared, energy, out=np.zeros(last), where=energy > 0)
    symmetric = np.isrealobj(a) and np.isrealobj(b)
    samples = per_ring(np.ones(n * n)) / (2 if symmetric else 1)
    root = np.sqrt(samples)
    half_bit = (0.2071 * root + 1.9102) / (1.2071 * root + 0.9102)
    frequency = np.arange(1, last + 1) / n
    smooth = _smooth(correlation, smooth_rings)
    return RingCorrelation(
        frequency_per_px=frequency,
        correlation=correlation,
        half_bit=half_bit,
        frc50_per_px=_first_crossing(frequency, smooth - 0.5, smooth_rings),
        half_bit_per_px=_first_crossing(frequency, smooth - half_bit, smooth_rings),
        independent=samples / _HANN_SPREAD,
    )


def _check(a: npt.NDArray[np.inexact], b: npt.NDArray[np.inexact], smooth_rings: int) -> None:
    if a.ndim != 2 or a.shape[0] != a.shape[1] or a.shape[0] < 8 or a.shape != b.shape:
        raise ValueError(f"frc: expected two square images of one size >= 8 px, found {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("frc: expected finite images, found NaN or infinity")
    if smooth_rings < 1 or smooth_rings % 2 == 0:
        raise ValueError(f"smooth_rings: expected an odd number >= 1, found {smooth_rings}")


def _spectrum(image: npt.NDArray[np.inexact]) -> npt.NDArray[np.complex128]:
    """Fourier transform of the windowed image, its windowed mean removed."""
    n = image.shape[0]
    line = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    window = np.outer(line, line)
    mean = np.sum(image * window) / window.sum()
    fluctuation = image - mean
    # What is left of a constant after subtraction is rounding, and rounding must not be correlated.
    if np.abs(fluctuation).max() <= 1e-12 * max(abs(mean), np.finfo(np.float64).tiny):
        return np.zeros(image.shape, dtype=np.complex128)
    return np.fft.fft2(fluctuation * window)


def _smooth(curve: npt.NDArray[np.float64], rings: int) -> npt.NDArray[np.float64]:
    """Running mean; at the ends over the rings that exist."""
    kernel = np.ones(rings)
    total: npt.NDArray[np.float64] = np.convolve(curve, kernel)[rings // 2 :][: len(curve)]
    return total / np.convolve(np.ones(len(curve)), kernel)[rings // 2 :][: len(curve)]


def _first_crossing(frequency: npt.NDArray[np.float64], margin: npt.NDArray[np.float64], skip: int) -> float:
    """Frequency at which the margin first falls below zero, linear between rings.

    The first `skip` rings hold a few samples each, too few to judge by; below zero right after them means 0.
    """
    below = np.flatnonzero(margin[skip:] < 0)
    if len(below) == 0:
        return 0.5
    if below[0] == 0:
        return 0.0
    first = skip + int(below[0])
    before, after = margin[first - 1], margin[first]
    step = frequency[first] - frequency[first - 1]
    return float(frequency[first - 1] + step * before / (before - after))
