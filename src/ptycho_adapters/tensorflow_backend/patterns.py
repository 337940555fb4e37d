"""A scan in the order of the network: every pattern once, on the host, gathered by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.common.patterns import beam_photons, mean_counts
from ptycho_core.measurement.beam import beam_offset_px
from ptycho_core.physics.subpixel import split_positions

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

Real = np.float32
"""Precision that everything is computed in; positions are split in float64 before."""


@attrs.frozen(kw_only=True, eq=False)
class Gathered:
    """Some patterns with all that the forward model needs of them.

    Attributes:
        counts: (B, C, N, N) float32, detector order, 0 at bad pixels.
        fractions_px: (B, C, 2) float32, what is left of the position beyond whole pixels.
        starts: (B, C, 2) int64, first pixel of each patch in object pixels.
    """

    counts: NDArray[np.float32]
    fractions_px: NDArray[np.float32]
    starts: NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Canvas:
    """Size of a canvas in px."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def where(self, starts: NDArray[np.int64], origin: NDArray[np.int64], size: int) -> NDArray[np.int32]:
        """Flat canvas indices (..., size²) of patches that start at the given object pixels."""
        first = (starts - origin) @ np.array([self.width, 1])
        edge = np.arange(size)
        tile = (edge[:, None] * self.width + edge).reshape(-1)
        return np.asarray(first[..., None] + tile, dtype=np.int32)


class Patterns:
    """The patterns of a scan. Those of a memory-mapped scan stay in their file until they are gathered.

    Args:
        scan: a validated scan.
        used: (m,) scan indices of the patterns that will be gathered, sorted; None for any.
        find_beam: look for the direct beam under the scan's probe, and roll patterns and mask back by what it is off.

    Attributes:
        size: edge of a pattern in px.
        flux: mean photons per frame of the whole scan, over good pixels.
        beam_px: (y, x) by which the direct beam was off pixel N // 2; (0, 0) where nobody looked.
        good_pixels: (N, N) float32 in detector order; None if all are good.
        starts: (n, 2) int64, first pixel of the patch of each scan index.
        fractions_px: (n, 2) float32, what is left of its position.
    """

    def __init__(self, scan: Scan, used: NDArray[np.integer] | None = None, *, find_beam: bool = False) -> None:
        mean = mean_counts(scan)
        self.size = scan.N
        self.flux = float(mean.sum())
        self.beam_px: tuple[int, int] = beam_offset_px(mean, scan.probe, scan.bad_pixels) if find_beam else (0, 0)
        self.good_pixels = None if scan.bad_pixels is None else self._ordered((~scan.bad_pixels).astype(Real))
        whole, rest = split_positions(scan.positions_px, scan.N)
        self.starts = np.rint(whole - (scan.N - 1) / 2).astype(np.int64)
        self.fractions_px = rest.astype(Real)
        self._scan = scan
        kept = np.arange(scan.n_patterns) if used is None else used
        self._counts = None if scan.memory_mapped else self._converted(kept)
        self._rows = np.full(scan.n_patterns, len(kept))  # beyond the last row: what is not kept is not gathered
        self._rows[kept] = np.arange(len(kept))

    @property
    def pixels(self) -> float:
        """Number of good pixels."""
        return self.size**2 if self.good_pixels is None else float(self.good_pixels.sum())

    def gather(self, indices: NDArray[np.integer]) -> Gathered:
        """Take patterns by scan index, (B, C)."""
        counts = self._converted(indices.reshape(-1)) if self._counts is None else self._counts[self._rows[indices]]
        return Gathered(
            counts=counts.reshape(*indices.shape, self.size, self.size),
            fractions_px=self.fractions_px[indices],
            starts=self.starts[indices],
        )

    def canvas_of(self, groups: NDArray[np.integer]) -> Canvas:
        """Find the smallest canvas that holds any of the groups (G, C), each moved to the canvas' corner."""
        if not len(groups):
            return Canvas(height=0, width=0)
        height, width = np.ptp(self.starts[groups], axis=1).max(axis=0) + self.size
        return Canvas(height=int(height), width=int(width))

    def _converted(self, chosen: NDArray[np.integer]) -> NDArray[np.float32]:
        counts = self._ordered(self._scan.counts(chosen).astype(Real))
        return counts if self.good_pixels is None else counts * self.good_pixels

    def _ordered(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Detector order for a beam that is off the middle by whole pixels: it comes to lie at index 0."""
        shift = [-(self.size // 2) - off for off in self.beam_px]
        ordered: NDArray[np.float32] = np.roll(patterns, shift, axis=(-2, -1))
        return ordered


def beam_energy(patterns: Patterns, background: float) -> float:
    """Photons per frame that come from the beam, where so many counts per pixel do not."""
    return beam_photons(patterns.flux, background, patterns.pixels)
