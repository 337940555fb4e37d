"""A probe brought to the window and the pixel that its patterns have after a preparation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptycho_core.measurement.preparation.frames import FramePlan


def prepared_probe(probe: npt.NDArray[np.complex64], plan: FramePlan) -> npt.NDArray[np.complex64]:
    """Cut a probe's far field as the patterns are cut, and its near field where they are binned.

    Cutting the far field about the beam keeps what the probe covers and makes its pixels larger; summing n pixels of
    the detector into one leaves the middle n-th of it.

    Args:
        probe: (modes, H, H), for patterns as they are in the file, not turned.
        plan: of the patterns; the beam that it brings to the middle is the probe's far field about H // 2.

    Returns:
        (modes, size, size); its light is that of the window.
    """
    side, factor = probe.shape[-1], plan.settings.bin
    wide = plan.size * factor
    far = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(probe.astype(np.complex128), axes=(1, 2)), norm="ortho"), axes=(1, 2)
    )
    cut = np.zeros((len(probe), wide, wide), dtype=np.complex128)
    first = side // 2 - wide // 2
    low, high = max(first, 0), min(first + wide, side)
    cut[:, low - first : high - first, low - first : high - first] = far[:, low:high, low:high]
    near = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(cut, axes=(1, 2)), norm="ortho"), axes=(1, 2))
    start = wide // 2 - plan.size // 2
    made: npt.NDArray[np.complex64] = near[:, start : start + plan.size, start : start + plan.size].astype(np.complex64)
    return made
