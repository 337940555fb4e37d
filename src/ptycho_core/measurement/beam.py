"""Where the direct beam lies on the detector, by what its probe would show there.

A beam that is off by a whole number of pixels is a slope of phase on the probe. With known positions that is no free
choice any more: an object that makes up for it would have a slope of its own under each patch. A fraction of a pixel
is small enough for probe and object to share.

A probe whose far field is nothing like the mean pattern cannot say where the beam is. The pattern itself then can: what
scatters to one side of the beam scatters as much to the other, on the mean over an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Real = npt.NDArray[np.float64]

_DARK_PERCENT = 10.0  # of the pixels are taken for background
_CLEAR_GAIN = 1.002  # of the agreement, for a beam to be moved
_ALIKE = 0.8  # correlation of two patterns, below which one says nothing about the other


def beam_offset_px(
    mean_counts: Real, probe: npt.NDArray[np.complexfloating], bad_pixels: npt.NDArray[np.bool_] | None = None
) -> tuple[int, int]:
    """Find by how many pixels the light of all patterns is off the place where a probe would have it.

    The moduli of the mean pattern and of the probe's far field are correlated over all cyclic shifts; where they are
    not alike at any, it is the middle about which the mean pattern is symmetric. A median over 3 x 3 pixels takes out
    hot ones first, so that a single pixel has no say.

    Args:
        mean_counts: (N, N) mean of the patterns, zero frequency expected at N // 2.
        probe: (modes, N, N) or (N, N) complex.
        bad_pixels: (N, N), True where not to look.

    Returns:
        (y, x) whole pixels, each from -N // 2 to (N - 1) // 2; (0, 0) unless another place agrees clearly better.
    """
    from scipy.ndimage import median_filter  # noqa: PLC0415 - keeps `import ptycho_core` quick

    size = mean_counts.shape[0]
    modes = probe.astype(np.complex128).reshape(-1, size, size)
    far = np.fft.fftshift(np.square(np.abs(np.fft.fft2(modes))).sum(axis=0))
    light = np.where(bad_pixels, 0.0, mean_counts) if bad_pixels is not None else mean_counts
    seen, wanted = (median_filter(image, size=3, mode="wrap") for image in (light, far))
    seen = np.sqrt(np.clip(seen - np.percentile(seen, _DARK_PERCENT), 0.0, None))
    agreement = _agreement(seen, np.sqrt(wanted))
    best = _place_of_most(agreement)
    if agreement[best] < _ALIKE:
        return _middle_of_symmetry(seen)
    return (0, 0) if agreement[best] <= _CLEAR_GAIN * agreement[0, 0] else _signed(best, size)


def _agreement(image: Real, other: Real) -> Real:
    """Correlate two images over all cyclic shifts of the second; 1 where they are the same up to a factor."""
    scale = float(np.linalg.norm(image) * np.linalg.norm(other))
    product: Real = np.fft.ifft2(np.fft.fft2(image) * np.fft.fft2(other).conj()).real
    return product / scale if scale > 0.0 else np.zeros_like(product)


def _middle_of_symmetry(seen: Real) -> tuple[int, int]:
    """Find the whole pixel about which an image is most nearly its own half turn, of four that are, the brightest."""
    size = len(seen)
    turned = _agreement(seen, np.roll(seen[::-1, ::-1], 1, axis=(0, 1)))
    best = _place_of_most(turned)
    if turned[best] < _ALIKE:
        return 0, 0
    middle = size // 2
    # A turn about a place is one about the place half a frame further as well, where frames repeat themselves.
    places = [
        (round((best[0] / 2 + down) % size), round((best[1] / 2 + right) % size))
        for down in (0.0, size / 2)
        for right in (0.0, size / 2)
    ]
    axis = np.arange(size)

    def light_near(place: tuple[int, int]) -> float:
        rows, columns = (np.cos(2.0 * np.pi * (axis - start) / size) for start in place)
        return float((seen * (rows[:, None] + columns[None, :])).sum())

    row, column = max(places, key=light_near)
    return _signed(((row - middle) % size, (column - middle) % size), size)


def _place_of_most(image: Real) -> tuple[int, int]:
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    return int(row), int(column)


def _signed(shift: tuple[int, int], size: int) -> tuple[int, int]:
    middle = size // 2
    return (shift[0] + middle) % size - middle, (shift[1] + middle) % size - middle
