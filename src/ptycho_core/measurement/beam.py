"""Where the direct beam lies on the detector, by what its probe would show there.

A beam that is off by a whole number of pixels is a slope of phase on the probe. With known positions that is no free
choice any more: an object that makes up for it would have a slope of its own under each patch. A fraction of a pixel
is small enough for probe and object to share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Real = npt.NDArray[np.float64]

_DARK_PERCENT = 10.0  # of the pixels are taken for background
_CLEAR_GAIN = 1.002  # of the agreement, for a beam to be moved


def beam_offset_px(
    mean_counts: Real, probe: npt.NDArray[np.complexfloating], bad_pixels: npt.NDArray[np.bool_] | None = None
) -> tuple[int, int]:
    """Find by how many pixels the light of all patterns is off the place where a probe would have it.

    The moduli of the mean pattern and of the probe's far field are correlated over all cyclic shifts. A median over
    3 x 3 pixels takes out hot ones first, so that a single pixel has no say.

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
    agreement = np.fft.ifft2(np.fft.fft2(seen) * np.fft.fft2(np.sqrt(wanted)).conj()).real
    row, column = np.unravel_index(int(agreement.argmax()), agreement.shape)
    if agreement[row, column] <= _CLEAR_GAIN * agreement[0, 0]:
        return 0, 0
    middle = size // 2
    return int((row + middle) % size) - middle, int((column + middle) % size) - middle
