"""What a scan is and what is suspicious about it, found by looking at every number once."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import ScanError
from ptycho_core.frozen import read_only
from ptycho_core.measurement.axes import AxesHint, axes_hint
from ptycho_core.measurement.beam import BeamCentre, find_beam_centre
from ptycho_core.measurement.scan import Amplitude as AmplitudeArray
from ptycho_core.measurement.scan import Counts, MeasurementDomain, Scan, counts_from_amplitude

if TYPE_CHECKING:
    from collections.abc import Iterator

Real = npt.NDArray[np.float64]


def _sealed(array: Real) -> Real:
    return read_only(array)


def _sealed_mask(array: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return read_only(array)


_CHUNK_VALUES = 1 << 22
_NEIGHBOURS = 6
_POWER_SHARE = 0.9
_REACH_SHARE = 0.9
_FEWEST_OF_A_GRID = 9
_ONE_STEP_ON = 0.25  # of a step: how near to its end a neighbour lies
_INSIDE = 0.6  # share of the points of a grid that have one; those at the edges have none
_REGULAR = 0.1  # root mean square distance of those from the end of the step, over the step
_RING_WIDTH_PX = 2
# A ring is darker inside than half of its crest.
_HOLLOW = 0.5

CENTRE_FOUND_BY = "centre of mass on a ring (circular mean)"
"""How the centre of a pattern is found, for people."""


class ProbeShape(StrEnum):
    """Where the light of a probe is."""

    SPOT = "spot"
    RING = "ring"


@attrs.frozen(kw_only=True, eq=False)
class Detector:
    """Sums over the patterns of a scan, bad pixels left out. Arrays are read-only.

    Attributes:
        photons: (n,) float64, photons of each frame.
        centres_px: (n, 2) float64, (y, x) of the centre of mass of each frame; NaN for a dark one.
        mean: (N, N) float64, mean count of each pixel.
        constant: (N, N) bool, pixels with light that show one and the same value in every frame.
        largest: largest count.
        n_largest: readings of the largest count.
        n_near_largest: readings of other counts less than its square root below it.
        n_repeated: frames that equal an earlier one bit by bit.
    """

    photons: Real = attrs.field(converter=_sealed)
    centres_px: Real = attrs.field(converter=_sealed)
    mean: Real = attrs.field(converter=_sealed)
    constant: npt.NDArray[np.bool_] = attrs.field(converter=_sealed_mask)
    largest: float
    n_largest: int
    n_near_largest: int
    n_repeated: int


@attrs.frozen(kw_only=True)
class ProbeFacts:
    """The illumination.

    Attributes:
        shape: where its light is.
        n_modes: incoherent modes.
        power_shares: share of the power in each mode.
        photons: photons per frame behind a transparent object.
        diameter_px: of the circle about its centre of mass that holds 90 % of the power.
        rim_share: share of the power in the outermost sixteenth of the array on each side.
    """

    shape: ProbeShape
    n_modes: int
    power_shares: tuple[float, ...]
    photons: float
    diameter_px: float
    rim_share: float


@attrs.frozen(kw_only=True, eq=False)
class PathFacts:
    """The positions.

    Attributes:
        extent_px: (y, x) size of the box that holds the positions.
        nearest_px: (n,) float64, distance of each position to its nearest neighbour; empty for a single position.
        spacing_px: median distance to the six nearest neighbours: the step of a square or hexagonal grid; None for a
            single position.
        n_duplicates: positions that another one shares to a thousandth of a pixel.
        grid_px: both steps where the positions form a grid, that nearer to y first; None if they do not.
    """

    extent_px: tuple[float, float]
    nearest_px: Real = attrs.field(converter=_sealed)
    spacing_px: float | None
    n_duplicates: int
    grid_px: tuple[float, float] | None


@attrs.frozen(kw_only=True, eq=False)
class Inspection:
    """Everything that was found.

    Attributes:
        scan: what was looked at.
        detector: sums over the patterns.
        probe: the illumination.
        path: the positions.
        centre_px: (y, x) of the centre of the mean pattern, found by `CENTRE_FOUND_BY`. Uneven light draws it
            beside the middle of what is lit.
        expected_centre_px: (y, x) where the probe's own far field has it, found in the same way.
        reach_px: radius about its centre that holds 90 % of the mean pattern's light.
        expected_reach_px: the same of the probe's own far field.
        beam: where the direct beam lies by the mean pattern's symmetry; None where no light shows it.
        axes: what the patterns say about the axes of the positions.
    """

    scan: Scan
    detector: Detector
    probe: ProbeFacts
    path: PathFacts
    centre_px: tuple[float, float]
    expected_centre_px: tuple[float, float]
    reach_px: float
    expected_reach_px: float
    beam: BeamCentre | None
    axes: AxesHint

    @property
    def photons_per_px(self) -> float | None:
        """Photons, or electrons, that the whole scan sends through an object pixel on the mean over its field.

        The field is the hull of the positions and half a spacing about it; None where that is no area.
        """
        spacing, area = self.path.spacing_px, _hull_area_px(self.scan.positions_px)
        if spacing is None or area == 0.0:
            return None
        return float(self.detector.photons.sum()) / (math.sqrt(area) + spacing) ** 2

    @property
    def linear_overlap(self) -> float | None:
        """1 - spacing / probe diameter, below 0 for probes that do not touch; None for a single position."""
        return None if self.path.spacing_px is None else 1.0 - self.path.spacing_px / self.probe.diameter_px


def inspect_scan(scan: Scan) -> Inspection:
    """Look at a scan.

    Args:
        scan: the scan; its patterns are gone through in pieces, so that little memory is needed beside them.
    """
    detector = _detector_facts(scan)
    light = _far_intensity(scan.probe)
    lit = detector.photons > 0.0
    return Inspection(
        scan=scan,
        detector=detector,
        probe=_probe_facts(scan.probe),
        path=_path_facts(scan.positions_px),
        centre_px=_circular_centre(detector.mean),
        expected_centre_px=_circular_centre(light),
        reach_px=_reach_px(detector.mean),
        expected_reach_px=_reach_px(light),
        beam=_beam(detector.mean, ~good_pixels(scan)),
        axes=axes_hint(scan.positions_px[lit], detector.centres_px[lit]),
    )


def _beam(mean: Real, bad: npt.NDArray[np.bool_]) -> BeamCentre | None:
    try:
        return find_beam_centre(mean, bad)
    except ScanError:
        return None


def good_pixels(scan: Scan) -> npt.NDArray[np.bool_]:
    """Give the pixels that are not masked, (N, N)."""
    return np.ones((scan.N, scan.N), dtype=bool) if scan.bad_pixels is None else ~scan.bad_pixels


def counts_in_pieces(scan: Scan) -> Iterator[Counts]:
    """Yield the photon counts of some frames at a time, (m, N, N) float32, 0 at bad pixels."""
    good = good_pixels(scan)
    step = max(1, _CHUNK_VALUES // good.size)
    for start in range(0, scan.n_patterns, step):
        values = np.where(good, scan.patterns[start : start + step], 0).astype(np.float32)
        amplitude = scan.domain is MeasurementDomain.AMPLITUDE
        yield counts_from_amplitude(AmplitudeArray(values)) if amplitude else Counts(values)


def _detector_facts(scan: Scan) -> Detector:
    photons: list[Real] = []
    moments: list[Real] = []
    places = np.arange(scan.N)
    total = np.zeros((scan.N, scan.N))
    low, high = np.full(total.shape, np.inf), np.zeros(total.shape)
    seen: list[npt.NDArray[np.uint64]] = []
    for counts in counts_in_pieces(scan):
        photons.append(counts.sum(axis=(1, 2), dtype=np.float64))
        moments.append(np.stack([counts.sum(axis=axis, dtype=np.float64) @ places for axis in (2, 1)], axis=1))
        total += counts.sum(axis=0, dtype=np.float64)
        low, high = np.minimum(low, counts.min(axis=0)), np.maximum(high, counts.max(axis=0))
        seen.append(np.asarray([_digest(frame) for frame in counts], dtype=np.uint64))
    largest = float(high.max())
    n_largest, n_near = _readings_near(scan, largest)
    light = np.concatenate(photons)
    with np.errstate(invalid="ignore"):
        centres = np.concatenate(moments) / light[:, np.newaxis]
    return Detector(
        photons=light,
        centres_px=centres,
        mean=total / scan.n_patterns,
        constant=(low == high) & (high > 0),
        largest=largest,
        n_largest=n_largest,
        n_near_largest=n_near,
        n_repeated=scan.n_patterns - len(np.unique(np.concatenate(seen))),
    )


def _digest(frame: npt.NDArray[np.float32]) -> int:
    """Give 8 bytes: among ten million frames, two are taken for one with a chance of 3 in a million."""
    from hashlib import blake2b  # noqa: PLC0415 - keeps `import ptycho_core` quick

    return int.from_bytes(blake2b(frame.tobytes(), digest_size=8).digest(), "little")


def _readings_near(scan: Scan, largest: float) -> tuple[int, int]:
    """Count the readings of the largest count, and those less than its square root below."""
    at, near = 0, 0
    for counts in counts_in_pieces(scan):
        high = counts[counts > largest - math.sqrt(largest)]
        same = int(np.count_nonzero(high >= np.float32(largest)))
        at, near = at + same, near + high.size - same
    return at, near


def _far_intensity(probe: npt.NDArray[np.complex64]) -> Real:
    from ptycho_core.physics.optics import expected_counts  # noqa: PLC0415 - keeps `import ptycho_core` quick

    return expected_counts(np.ones(probe.shape[1:]), probe)


def _reach_px(image: Real) -> float:
    """Radius about its centre that holds most of an image's light; it may lie across the edges."""
    size = image.shape[0]
    off = [(np.arange(size) - middle + size / 2) % size - size / 2 for middle in _circular_centre(image)]
    radius = np.hypot(off[0][:, np.newaxis], off[1]).ravel()
    order = np.argsort(radius)
    share = np.cumsum(image.ravel()[order])
    return float(radius[order][np.searchsorted(share, _REACH_SHARE * share[-1])])


def _circular_centre(image: Real) -> tuple[float, float]:
    """Centre of mass on a ring, (y, x): whether an image is rolled does not matter, it is found where it is."""
    size = image.shape[0]
    turn = np.exp(2j * np.pi * np.arange(size) / size)
    row, column = (float(np.angle(np.sum(image.sum(axis=axis) * turn))) for axis in (1, 0))
    return _on_ring(row / (2 * np.pi) * size, size), _on_ring(column / (2 * np.pi) * size, size)


def _on_ring(place: float, size: int) -> float:
    """The place in [0, size): the remainder of a number just below zero rounds to the size itself, which is 0."""
    remainder = place % size
    return 0.0 if remainder == size else remainder


def _probe_facts(probe: npt.NDArray[np.complex64]) -> ProbeFacts:
    light = np.square(np.abs(probe.astype(np.complex128)))
    power = light.sum(axis=(1, 2))
    intensity = light.sum(axis=0)
    size = intensity.shape[0]
    y, x = np.mgrid[:size, :size].astype(np.float64)
    centre = (float((intensity * y).sum() / power.sum()), float((intensity * x).sum() / power.sum()))
    radius = np.hypot(y - centre[0], x - centre[1])
    order = np.argsort(radius, axis=None)
    share = np.cumsum(intensity.ravel()[order]) / power.sum()
    rim = max(1, size // 16)
    inner = np.s_[rim : size - rim, rim : size - rim]
    return ProbeFacts(
        shape=_shape_of(intensity, radius),
        n_modes=len(probe),
        power_shares=tuple((power / power.sum()).tolist()),
        photons=float(power.sum()),
        # The circle passes outside of its last pixel, so a single lit pixel has a diameter of one.
        diameter_px=2.0 * float(radius.ravel()[order][np.searchsorted(share, _POWER_SHARE)]) + 1.0,
        rim_share=float(1.0 - intensity[inner].sum() / power.sum()),
    )


def _shape_of(intensity: Real, radius: Real) -> ProbeShape:
    """Tell a ring from a spot by the mean intensity around the centre of mass."""
    ring = (radius / _RING_WIDTH_PX).astype(np.int64).ravel()
    within = radius.ravel() <= intensity.shape[0] / 2
    sums = np.bincount(ring[within], weights=intensity.ravel()[within])
    pixels = np.bincount(ring[within])
    profile = sums / np.maximum(pixels, 1)
    crest = int(np.argmax(profile))
    return ProbeShape.RING if profile[: crest + 1].min() < _HOLLOW * profile[crest] else ProbeShape.SPOT


def _path_facts(positions_px: Real) -> PathFacts:
    from scipy.spatial import cKDTree  # noqa: PLC0415 - keeps `import ptycho_core` quick

    height, width = np.ptp(positions_px, axis=0)
    n_positions = len(positions_px)
    cells = np.unique(np.round(positions_px * 1000.0), axis=0)
    count = min(_NEIGHBOURS, n_positions - 1)
    nearest, spacing = np.zeros(0), None
    if count:
        distances = np.asarray(cKDTree(positions_px).query(positions_px, k=count + 1)[0])[:, 1:]
        nearest, spacing = distances[:, 0], float(np.median(distances))
    return PathFacts(
        extent_px=(float(height), float(width)),
        nearest_px=nearest,
        spacing_px=spacing,
        n_duplicates=n_positions - len(cells),
        grid_px=_grid_px(positions_px),
    )


def _hull_area_px(positions_px: Real) -> float:
    """Give the area of the hull of some positions; 0 where they lie on a line."""
    from scipy.spatial import ConvexHull, QhullError  # noqa: PLC0415 - as above

    try:
        return float(ConvexHull(positions_px).volume)
    except (QhullError, ValueError):
        return 0.0


def _grid_px(positions_px: Real) -> tuple[float, float] | None:
    """Give the two steps of a grid, that nearer to y first, if nearly every point has neighbours one step on."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 - as above

    places = np.unique(np.round(positions_px, 3), axis=0)
    if len(places) < _FEWEST_OF_A_GRID:
        return None
    tree = cKDTree(places)
    middle = places[int(tree.query(places.mean(axis=0))[1])]
    around = places[np.asarray(tree.query(middle, k=_NEIGHBOURS + 3)[1])[1:]] - middle
    first = around[0]
    across = np.abs(around @ (-first[1], first[0])) > 0.5 * np.hypot(*first) * np.hypot(*around.T)
    if not across.any():
        return None
    steps = sorted((first, around[int(np.argmax(across))]), key=lambda step: -abs(step[0]) / np.hypot(*step))
    for step in steps:
        off = np.asarray(tree.query(places + step)[0]) / np.hypot(*step)
        there = off[off < _ONE_STEP_ON]
        # Points that are jittered have no period, though their rows can be told apart.
        if len(there) < _INSIDE * len(places) or math.sqrt(float(np.mean(there**2))) > _REGULAR:
            return None
    return float(np.hypot(*steps[0])), float(np.hypot(*steps[1]))
