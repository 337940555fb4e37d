"""A scan on the device: every pattern once, groups gathered by index."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from ptycho_adapters.common.patterns import mean_counts
from ptycho_adapters.torch_backend.data.ahead import read_ahead
from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.canvas import extract, pixel_indices
from ptycho_adapters.torch_backend.physics.optics import detector_order, shift_probe, split_positions
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.arrays import as_complex
from ptycho_core.measurement.beam import beam_offset_px
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ptycho_core.measurement.scan import Scan


_THINNING_SEED = 30_017
_COUNT_BYTES = 4
# A read takes a quarter of a millisecond whatever it brings, and stands in the way of the other thread as long.
_READ_AT_ONCE_BYTES = 1 << 21


@attrs.frozen(kw_only=True, eq=False)
class Gathered:
    """Some patterns with all that the forward model needs of them.

    Attributes:
        counts: (B, C, N, N) float32, detector order, 0 at bad pixels.
        fractions_px: (B, C, 2) float32, what is left of the position beyond whole pixels.
        starts: (B, C, 2) int64, first pixel of each patch in object pixels.
        relative_flux: (B, C) float32, of each frame over the mean of the scan; None where all are alike.
        labels: (B, C, N, N) complex64 patches of the known object, in the network's scale, or None.
    """

    counts: Tensor
    fractions_px: Tensor
    starts: Tensor
    relative_flux: Tensor | None = None
    labels: Tensor | None = None

    def probes(self, probe: Tensor) -> Tensor:
        """Move a probe (modes, N, N) to each sub-pixel position, as bright as the frame: (B, C, modes, N, N)."""
        return as_bright(shift_probe(probe, self.fractions_px), self.relative_flux)


def as_bright(probes: Tensor, relative_flux: Tensor | None) -> Tensor:
    """Give probes (..., modes, N, N) the flux of their frames (...)."""
    return probes if relative_flux is None else probes * relative_flux.sqrt()[..., None, None, None]


class ResidentScan(nn.Module):
    """Unique patterns as buffers, so that they follow the module to its device; indices are those of the scan.

    The patterns of a scan that stays in its file are not kept: those of a batch are read when it is gathered, or ahead
    of that, and only they are brought to the device. What is gathered is the same to the last bit.

    Args:
        scan: a validated scan.
        patterns: (m,) sorted scan indices of the patterns to keep, for those who use no others; all by default.
        labelled: keep the known object too, for supervised training.
        find_beam: look for the direct beam under the scan's probe, and roll patterns and mask back by what it is off.

    Raises:
        ScanError: a known object is wanted, and the scan has none or one that does not hold every patch.

    Attributes:
        flux: mean photons per frame of the whole scan, over good pixels.
        beam_px: (y, x) by which the direct beam was off pixel N // 2; (0, 0) where nobody looked.
        mean_counts: (N, N) float64, mean of all patterns, detector order, 0 at bad pixels; on the host.
        size: edge of a pattern in px.
        counts: (m, N, N), detector order, 0 at bad pixels: the patterns that are kept, uint16 where they were measured
            as such, else float32; m = 0 for a memory-mapped scan.
        rows: (n,) int64, where the pattern of each scan index lies in `counts`; m, and so none, if it is not kept.
        starts: (n, 2) int64, first pixel of the patch of each scan index.
        fractions_px: (n, 2) float32, what is left of its position.
        relative_flux: (n,) float32, of each frame over their mean; None while all are taken to be alike.
    """

    flux: float
    beam_px: tuple[int, int]
    mean_counts: Tensor
    size: int
    counts: Tensor
    rows: Tensor
    starts: Tensor
    fractions_px: Tensor
    relative_flux: Tensor | None
    good_pixels: Tensor | None
    known_object: Tensor | None

    def __init__(
        self,
        scan: Scan,
        *,
        patterns: NDArray[np.integer] | None = None,
        labelled: bool = False,
        find_beam: bool = False,
    ) -> None:
        super().__init__()
        mean = mean_counts(scan)
        self.beam_px = beam_px = beam_offset_px(mean, scan.probe, scan.bad_pixels) if find_beam else (0, 0)
        every = patterns is None or len(patterns) == scan.n_patterns
        kept = np.arange(scan.n_patterns) if patterns is None else patterns
        self.size = scan.N
        self._mapped = scan if scan.memory_mapped else None
        self._half: int | None = None
        good = None if scan.bad_pixels is None else torch.tensor(~scan.bad_pixels, dtype=torch.float32)
        self._good_on_host = good = None if good is None else _beam_order(good, beam_px)
        if scan.memory_mapped:
            kept, every = kept[:0], False
        chosen = slice(None) if every else kept
        convert = _as_measured if count_bytes(scan) == 2 else _converted
        counts = convert(scan, chosen, good, beam_px)
        starts, fractions = split_positions(torch.tensor(scan.positions_px), scan.N)
        self.register_buffer("counts", counts, persistent=False)
        rows = np.full(scan.n_patterns, len(kept), dtype=np.int64)
        rows[kept] = np.arange(len(kept))
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("fractions_px", fractions, persistent=False)
        self.register_buffer("relative_flux", None, persistent=False)
        self.register_buffer("good_pixels", good, persistent=False)
        self.mean_counts = _beam_order(torch.tensor(mean), beam_px)
        self.flux = float(mean.sum())
        known = torch.tensor(_known_object(scan, self.flux)) if labelled else None
        self.register_buffer("known_object", known, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where what is gathered lies."""
        return self.starts.device

    @property
    def reads(self) -> bool:
        """Whether counts are read from a file when they are gathered."""
        return self._mapped is not None

    @part("data")
    def gather(self, indices: Tensor, counts: Tensor | None = None) -> Gathered:
        """Take patterns by scan index, (B, C) int64; each has to be one that is kept.

        Args:
            indices: which ones.
            counts: theirs, if `read` has brought them already.
        """
        starts = self.starts[indices]
        return Gathered(
            counts=(self.read(indices) if counts is None else counts).to(self.device),
            fractions_px=self.fractions_px[indices],
            starts=starts,
            relative_flux=None if self.relative_flux is None else self.relative_flux[indices],
            labels=self._labels(starts),
        )

    def gathered(self, indices: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Gathered]]:
        """Go through patterns (n,) in batches, (b,) and what `gather` gives of (1, b); a file is read ahead."""
        if not len(indices):  # of which a tensor makes one empty batch
            return
        if not self.reads:
            yield from ((batch, self.gather(batch[None])) for batch in indices.split(batch_size))
            return
        at_once = batch_size * max(1, _READ_AT_ONCE_BYTES // (batch_size * self.size**2 * _COUNT_BYTES))
        for piece, counts in read_ahead(self.read, indices.split(at_once)):
            for batch, some in zip(piece.split(batch_size), counts.split(batch_size), strict=True):
                yield batch, self.gather(batch[None], some[None])

    def read(self, indices: Tensor) -> Tensor:
        """Give the counts (..., N, N) float32 of scan indices (...): from where they are kept, or the host if read."""
        if self._mapped is None:
            return self.counts[self.rows[indices]].to(torch.float32)
        numbers = indices.reshape(-1).cpu().numpy()
        counts = _converted(self._mapped, numbers, self._good_on_host, self.beam_px)
        if self._half is not None:
            counts = _halves(counts, numbers, self._half)
        return counts.reshape(*indices.shape, self.size, self.size)

    def _labels(self, starts: Tensor) -> Tensor | None:
        if self.known_object is None:
            return None
        groups, width = starts.shape[0], self.known_object.shape[1]
        whole = self.known_object.reshape(1, -1).expand(groups, -1)
        return extract(whole, pixel_indices(starts, self.size, width), self.size)

    def moved(self, indices: Tensor, moves_px: Tensor) -> ResidentScan:
        """The same patterns, sharing their memory, with some positions moved.

        Args:
            indices: (m,) int64 scan indices.
            moves_px: (m, 2) real, (y, x).
        """
        first = self.starts[indices] + self.fractions_px[indices].double() + moves_px.double()
        whole = torch.floor(first + 0.5)
        starts = self.starts.index_copy(0, indices, whole.to(torch.int64))
        return self.placed(starts, self.fractions_px.index_copy(0, indices, (first - whole).to(torch.float32)))

    def nudged(self, indices: Tensor, moves_px: Tensor) -> ResidentScan:
        """The same patterns with some positions moved, patches where they are: the probe is moved in them.

        Args:
            indices: (m,) int64 scan indices.
            moves_px: (m, 2) real, (y, x), of about a pixel at most.
        """
        fractions = self.fractions_px.index_copy(0, indices, self.fractions_px[indices] + moves_px.float())
        return self.placed(self.starts, fractions)

    def thinned(self, half: int) -> ResidentScan:
        """The same patterns with one of two halves of each count, at random: if they are Poisson, so are both, apart.

        Args:
            half: 0 or 1; both add up to the whole, and are the same each time.
        """
        other = self.placed(self.starts, self.fractions_px)
        vars(other)["_half"] = half
        kept = torch.nonzero(self.rows < len(self.counts))[:, 0].cpu().numpy()
        other.counts = _halves(self.counts.cpu(), kept, half).to(self.counts)
        return other

    def placed(self, starts: Tensor, fractions_px: Tensor) -> ResidentScan:
        """The same patterns, sharing their memory, at other places: first pixels and what is left beyond them."""
        other = self._sharing()
        other.starts, other.fractions_px = starts.to(self.device), fractions_px.to(self.device)
        return other

    def lit(self, relative_flux: Tensor | None) -> ResidentScan:
        """The same patterns, sharing their memory, under a flux (n,) of each frame over their mean."""
        other = self._sharing()
        other.relative_flux = None if relative_flux is None else relative_flux.to(self.device, torch.float32)
        return other

    def probes(self, probe: Tensor, indices: Tensor) -> Tensor:
        """The probes (..., modes, N, N) of scan indices (...), as `Gathered` has them, without their patterns."""
        flux = None if self.relative_flux is None else self.relative_flux[indices]
        return as_bright(shift_probe(probe, self.fractions_px[indices]), flux)

    def _sharing(self) -> ResidentScan:
        other = copy(self)
        # A shallow copy shares the table of buffers: it gets one of its own before some of them are exchanged.
        vars(other)["_buffers"] = dict(vars(self)["_buffers"])
        return other

    def positions_px(self, indices: Tensor) -> Tensor:
        """Positions (m, 2) float64 of some scan indices, (y, x) of the patch centre in object pixels."""
        centre = (self.size - 1) / 2
        return self.starts[indices].double() + self.fractions_px[indices].double() + centre

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


def _known_object(scan: Scan, flux: float) -> NDArray[np.complex64]:
    """Object of a labelled scan in the network's scale, where the probe's energy is the mean flux."""
    problem = Problem(
        path="object",
        expected="the known object, for supervised training",
        found="none",
        fix="give a scan with objectGuess, or train with model_type='pinn' or --model-type pinn",
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
    known = as_complex(scan.object * np.sqrt(own / flux))
    if not np.isfinite(known).all():
        expected = "numbers that complex64 holds in the network's scale"
        found = f"a largest modulus of {np.abs(scan.object).max():.3g}"
        raise ScanError("training scan", [Problem(path="object", expected=expected, found=found)])
    return known


def count_bytes(scan: Scan) -> int:
    """Bytes of a count on the device: counts measured as uint16 stay so, unless they come out of a file."""
    short = scan.domain is MeasurementDomain.COUNTS and scan.patterns.dtype == np.uint16
    return 2 if short and not scan.memory_mapped else 4


def _as_measured(
    scan: Scan, chosen: slice | NDArray[np.integer], good: Tensor | None, beam_px: tuple[int, int]
) -> Tensor:
    """Bring uint16 counts of a scan to detector order on the host, 0 at bad pixels."""
    counts = _beam_order(torch.tensor(scan.patterns[chosen]), beam_px)
    return counts if good is None else torch.where(good > 0, counts, torch.zeros_like(counts[:1]))


def _converted(
    scan: Scan, chosen: slice | NDArray[np.integer], good: Tensor | None, beam_px: tuple[int, int]
) -> Tensor:
    """Bring patterns of a scan to counts in detector order on the host, 0 at bad pixels."""
    counts = _beam_order(torch.tensor(scan.counts(chosen)), beam_px)
    return counts if good is None else counts * good


def _halves(counts: Tensor, numbers: NDArray[np.integer], half: int) -> Tensor:
    """One half of the counts (n, N, N) of patterns by these numbers; each pattern has chances of its own."""
    halves = torch.empty(counts.shape)
    for row, number in enumerate(numbers.tolist()):
        whole = counts[row].numpy().astype(np.float64)
        first = np.random.default_rng((_THINNING_SEED, number)).binomial(np.rint(whole).astype(np.int64), 0.5)
        halves[row] = torch.tensor(first if half == 0 else whole - first)
    return halves


def _beam_order(patterns: Tensor, beam_px: tuple[int, int]) -> Tensor:
    """Detector order for a beam that is off the middle by whole pixels (y, x): it comes to lie at index 0."""
    ordered = detector_order(patterns)
    return ordered if beam_px == (0, 0) else torch.roll(ordered, (-beam_px[0], -beam_px[1]), dims=(-2, -1))
