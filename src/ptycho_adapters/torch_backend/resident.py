"""A scan on the device: every pattern once, groups gathered by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from ptycho_adapters.torch_backend.canvas import extract, pixel_indices
from ptycho_adapters.torch_backend.optics import detector_order, shift_probe, split_positions
from ptycho_core.errors import Problem, ScanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_core.scan import Scan


_CONVERTED_AT_ONCE = 64


@attrs.frozen(kw_only=True, eq=False)
class Gathered:
    """Some patterns with all that the forward model needs of them.

    Attributes:
        counts: (B, C, N, N) float32, detector order, 0 at bad pixels.
        fractions_px: (B, C, 2) float32, what is left of the position beyond whole pixels.
        starts: (B, C, 2) int64, first pixel of each patch in object pixels.
        labels: (B, C, N, N) complex64 patches of the known object, in the network's scale, or None.
    """

    counts: Tensor
    fractions_px: Tensor
    starts: Tensor
    labels: Tensor | None = None

    def probes(self, probe: Tensor) -> Tensor:
        """Move a probe (modes, N, N) to each sub-pixel position: (B, C, modes, N, N)."""
        return shift_probe(probe, self.fractions_px)


class ResidentScan(nn.Module):
    """Unique patterns as buffers, so that they follow the module to its device; indices are those of the scan.

    Args:
        scan: a validated scan.
        patterns: (m,) sorted scan indices of the patterns to keep, for those who use no others; all by default.
        labelled: keep the known object too, for supervised training.

    Raises:
        ScanError: a known object is wanted, and the scan has none or one that does not hold every patch.

    Attributes:
        flux: mean photons per frame of the whole scan.
        counts: (m, N, N) float32, detector order, 0 at bad pixels: the patterns that are kept.
        rows: (n,) int64, where the pattern of each scan index lies in `counts`; m, and so none, if it is not kept.
        starts: (n, 2) int64, first pixel of the patch of each scan index.
        fractions_px: (n, 2) float32, what is left of its position.
    """

    flux: float
    counts: Tensor
    rows: Tensor
    starts: Tensor
    fractions_px: Tensor
    good_pixels: Tensor | None
    known_object: Tensor | None

    def __init__(self, scan: Scan, *, patterns: NDArray[np.integer] | None = None, labelled: bool = False) -> None:
        super().__init__()
        self.flux = mean_flux(scan)
        every = patterns is None or len(patterns) == scan.n_patterns
        kept = np.arange(scan.n_patterns) if patterns is None else patterns
        counts = detector_order(torch.tensor(scan.counts(slice(None) if every else kept)))
        good = None
        if scan.bad_pixels is not None:
            good = detector_order(torch.tensor(~scan.bad_pixels, dtype=torch.float32))
            counts = counts * good
        starts, fractions = split_positions(torch.tensor(scan.positions_px), scan.N)
        self.register_buffer("counts", counts, persistent=False)
        rows = np.full(scan.n_patterns, len(kept), dtype=np.int64)
        rows[kept] = np.arange(len(kept))
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("fractions_px", fractions, persistent=False)
        self.register_buffer("good_pixels", good, persistent=False)
        known = torch.tensor(_known_object(scan, self.flux)) if labelled else None
        self.register_buffer("known_object", known, persistent=False)

    @property
    def size(self) -> int:
        """Edge of a pattern in px."""
        return int(self.counts.shape[-1])

    def gather(self, indices: Tensor) -> Gathered:
        """Take patterns by scan index, (B, C) int64; each has to be one that is kept."""
        starts = self.starts[indices]
        return Gathered(
            counts=self.counts[self.rows[indices]],
            fractions_px=self.fractions_px[indices],
            starts=starts,
            labels=self._labels(starts),
        )

    def _labels(self, starts: Tensor) -> Tensor | None:
        if self.known_object is None:
            return None
        groups, width = starts.shape[0], self.known_object.shape[1]
        whole = self.known_object.reshape(1, -1).expand(groups, -1)
        return extract(whole, pixel_indices(starts, self.size, width), self.size)

    def starts_on_host(self) -> NDArray[np.int64]:
        """First pixels of all patches, (n, 2)."""
        starts: NDArray[np.int64] = self.starts.cpu().numpy()
        return starts


@attrs.frozen(kw_only=True)
class Canvas:
    """Size of a canvas in px."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def indices(self, starts: Tensor, origin: Tensor, size: int) -> Tensor:
        """Flat canvas indices (..., size²) of patches that start at the given object pixels."""
        return pixel_indices(starts - origin, size, self.width)


def group_canvas(starts: NDArray[np.int64], groups: NDArray[np.int32], size: int) -> Canvas:
    """Find the smallest canvas that holds any of the groups, each moved to the canvas' corner.

    Args:
        starts: (n, 2) first pixels of all patches.
        groups: (G, C) scan indices.
        size: patch edge in px.
    """
    members = starts[groups]
    extent = (members.max(axis=1) - members.min(axis=1)).max(axis=0)
    return Canvas(height=int(extent[0]) + size, width=int(extent[1]) + size)


@attrs.frozen(kw_only=True, eq=False)
class Arms:
    """Patterns to train and to validate on, often the same scan, and a canvas that holds any group of either."""

    training: ResidentScan
    validation: ResidentScan
    canvas: Canvas


def _known_object(scan: Scan, flux: float) -> NDArray[np.complex64]:
    """Object of a labelled scan in the network's scale, where the probe's energy is the mean flux."""
    problem = Problem(
        path="object",
        expected="the known object, for supervised training",
        found="none",
        fix="give a scan with objectGuess, or train with model_type='pinn'",
    )
    if scan.object is None:
        raise ScanError("training scan", [problem])
    starts, _ = split_positions(torch.tensor(scan.positions_px), scan.N)
    lowest, highest = starts.amin(dim=0).tolist(), (starts.amax(dim=0) + scan.N).tolist()
    if min(lowest) < 0 or highest[0] > scan.object.shape[0] or highest[1] > scan.object.shape[1]:
        found = f"{scan.object.shape} and patches from {tuple(lowest)} to {tuple(highest)} px"
        problem = attrs.evolve(problem, expected="an object that holds every patch", found=found)
        raise ScanError("training scan", [problem])
    own = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    known: NDArray[np.complex64] = (scan.object * np.sqrt(own / flux)).astype(np.complex64)
    return known


def mean_flux(scan: Scan) -> float:
    """Mean photons per frame over good pixels, float64; a few patterns are converted at a time."""
    good = np.ones((scan.N, scan.N), bool) if scan.bad_pixels is None else ~scan.bad_pixels
    total: NDArray[np.float64] = np.zeros((scan.N, scan.N))
    for first in range(0, scan.n_patterns, _CONVERTED_AT_ONCE):
        total += scan.counts(slice(first, first + _CONVERTED_AT_ONCE)).sum(axis=0, dtype=np.float64)
    return float(total[good].sum() / scan.n_patterns)
