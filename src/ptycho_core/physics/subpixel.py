"""Sub-pixel positions without interpolating the object: the reference, in float64.

A patch is cut on whole pixels and the probe is moved by what is left of the position, through the Fourier shift
theorem. For a probe that is band-limited by its frame this is exact, where bilinear interpolation of the object would
low-pass it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ptycho_core.physics.optics import expected_counts, extract_patches


def split_positions(
    positions_px: npt.NDArray[np.floating], size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Split positions into ones whose patches start on whole pixels and what is left.

    Args:
        positions_px: (n, 2), (y, x) of the patch centres.
        size: pixels along a side of a patch.

    Returns:
        Positions (n, 2) of patches on whole pixels, and remainders (n, 2) in [-0.5, 0.5); their sum is the input.
    """
    positions = np.asarray(positions_px, dtype=np.float64)
    half = (size - 1) / 2
    whole = np.floor(positions - half + 0.5) + half
    return whole, positions - whole


def shift_probe(probe: npt.NDArray[np.inexact], shift_px: npt.NDArray[np.floating]) -> npt.NDArray[np.complex128]:
    """Move the content of a probe (modes, N, N) by +shift_px, (y, x), periodically."""
    frequencies = np.fft.fftfreq(probe.shape[-1])
    ramp_y, ramp_x = (np.exp(-2j * np.pi * frequencies * shift) for shift in shift_px)
    shifted: npt.NDArray[np.complex128] = np.fft.ifft2(np.fft.fft2(probe) * ramp_y[:, None] * ramp_x[None, :])
    return shifted


def scan_counts(
    object_: npt.NDArray[np.complexfloating],
    probe: npt.NDArray[np.complexfloating],
    positions_px: npt.NDArray[np.floating],
    *,
    origin_px: tuple[int, int] = (0, 0),
    background: float = 0.0,
) -> npt.NDArray[np.float64]:
    """Mean photon counts of every frame of a scan.

    Args:
        object_: (H, W) complex transmission.
        probe: (modes, N, N), in square roots of photons.
        positions_px: (n, 2), (y, x) of the patch centres.
        origin_px: (y, x) of `object_[0, 0]` in the coordinates of the positions.
        background: counts per pixel, >= 0.

    Returns:
        (n, N, N), zero frequency at N // 2.

    Raises:
        ScanError: a patch reaches outside the object.
    """
    size = probe.shape[-1]
    whole, rest = split_positions(positions_px, size)
    patches = extract_patches(object_, whole, size, origin_px=origin_px)
    counts = np.empty(patches.shape)
    for frame, (patch, shift) in enumerate(zip(patches, rest, strict=True)):
        counts[frame] = expected_counts(patch, shift_probe(probe, shift), background=background)
    return counts
