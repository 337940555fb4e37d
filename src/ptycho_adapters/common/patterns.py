"""Figures about the patterns of a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.stored import stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_core.measurement.scan import Scan

LEAST_BEAM_SHARE = 0.05
"""Of all light, for the beam, whatever is told of the background."""

_CONVERTED_AT_ONCE = 64


def mean_flux(scan: Scan) -> float:
    """Mean photons per frame over good pixels, float64."""
    return float(mean_counts(scan).sum())


def mean_counts(scan: Scan) -> NDArray[np.float64]:
    """Mean pattern (N, N), 0 at bad pixels; a few patterns are converted at a time."""
    left = stored(scan.patterns)
    total = _summed(scan) if left is None else left.remembered(("sum", scan.domain), lambda: _summed(scan))
    return (total if scan.bad_pixels is None else np.where(scan.bad_pixels, 0.0, total)) / scan.n_patterns


def _summed(scan: Scan) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.zeros((scan.N, scan.N))
    for some in frame_slices(scan.patterns, values=_CONVERTED_AT_ONCE * scan.N**2):
        total += scan.counts(some).sum(axis=0, dtype=np.float64)
    return total


def beam_photons(flux: float, background_counts: float, pixels: float) -> float:
    """Photons per frame that come from the beam.

    Args:
        flux: all photons per frame, over good pixels.
        background_counts: per pixel.
        pixels: number of good ones.
    """
    return max(flux - background_counts * pixels, LEAST_BEAM_SHARE * flux)
