"""What is suspicious about a scan: each finding says what was seen and why it matters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.measurement.fault_words import pixel_list
from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.measurement.inspection import CENTRE_FOUND_BY, good_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ptycho_core.measurement.inspection import Inspection
    from ptycho_core.measurement.scan import Scan

SCREENED = "detector_"
"""What stands before the kind of a fault, among a scan's extra metadata, where its reading found one."""
LEFT_OUT = "frames_left_out"
"""Key of the number of frames that are no measurement and were left out, among a scan's extra metadata."""

_SURE_PHOTONS = 20.0  # a pixel that expects so many sees none with a probability of exp(-20)
_FEW = 5
_ALIKE = 2.0
_RIM_SHARE = 0.02
_NARROWER = 0.85  # of the reach of the probe's light that the patterns have
_LISTED = 5


def findings(inspection: Inspection) -> tuple[Finding, ...]:
    """Return what is suspicious about a scan: what its reading found, then patterns, positions and probe."""
    screened = screened_findings(inspection.scan)
    said = {finding.kind for finding in screened}
    return screened + tuple(
        Finding(kind=kind, text=text)
        for rule in (_pixels, _frames, _centre, _positions, _overlap, _probe)
        for kind, text in rule(inspection)
        if kind not in said
    )


def screened_findings(scan: Scan) -> tuple[Finding, ...]:
    """Return what the reading of a scan found wrong with its detector, and did about it."""
    kinds = {SCREENED + kind: kind for kind in Suspicion}
    return tuple(Finding(kind=kinds[key], text=text) for key, text in scan.metadata.extra.items() if key in kinds)


def frames_left_out(scan: Scan) -> int:
    """Return how many frames the reading of a scan left out because they are no measurement."""
    noted = scan.metadata.extra.get(LEFT_OUT, "")
    return int(noted) if noted.isdecimal() else 0


def dead_pixels(inspection: Inspection) -> npt.NDArray[np.bool_]:
    """Give the good pixels, (N, N), that are dark in every frame although those around them are lit."""
    from scipy.ndimage import median_filter  # noqa: PLC0415 - keeps `import ptycho_core` quick

    total = inspection.detector.mean * inspection.scan.n_patterns
    around = median_filter(total, size=3, mode="nearest")
    dead: npt.NDArray[np.bool_] = good_pixels(inspection.scan) & (total == 0) & (around > _SURE_PHOTONS)
    return dead


def _pixels(inspection: Inspection) -> Iterator[tuple[Suspicion, str]]:
    detector = inspection.detector
    expected = detector.n_near_largest / math.sqrt(max(detector.largest, 1.0))
    if detector.n_largest >= _FEW and detector.n_largest > 3.0 * expected:
        text = (
            f"{detector.n_largest} readings of exactly {detector.largest:.6g} counts, the largest there is, where "
            f"about {expected:.1g} would be expected: the detector may be saturated"
        )
        yield Suspicion.SATURATED, text
    dead = dead_pixels(inspection)
    if dead.any():
        text = f"{pixel_list(dead)} without a count in any frame beside lit ones: dead pixels, not in the mask"
        yield Suspicion.DEAD_PIXELS, text
    if detector.constant.any() and inspection.scan.n_patterns > 2:
        yield Suspicion.STUCK_PIXELS, f"{pixel_list(detector.constant)} with one value in all frames: stuck pixels"


def _frames(inspection: Inspection) -> Iterator[tuple[Suspicion, str]]:
    photons = inspection.detector.photons
    middle = float(np.median(photons))
    odd = np.flatnonzero((photons > _ALIKE * middle) | (photons < middle / _ALIKE))
    if odd.size:
        few = ", ".join(map(str, odd[:_LISTED])) + (", …" if odd.size > _LISTED else "")
        text = f"{odd.size} frames hold more than twice or less than half of the median {middle:.3g} photons: {few}"
        yield Suspicion.UNEVEN_FLUX, text
    if inspection.detector.n_repeated:
        yield Suspicion.REPEATED_FRAMES, f"{inspection.detector.n_repeated} frames equal an earlier frame exactly"
    declared = inspection.scan.metadata.nphotons
    mean = float(photons.mean())
    if declared is not None and not 1 / _ALIKE <= declared / mean <= _ALIKE:
        text = f"the metadata say {declared:.3g} photons per frame, the patterns hold {mean:.3g}"
        yield Suspicion.DECLARED_FLUX, text


def _centre(inspection: Inspection) -> Iterator[tuple[Suspicion, str]]:
    size = inspection.scan.N
    centre, expected = np.asarray(inspection.centre_px), np.asarray(inspection.expected_centre_px)
    off = (centre - expected + size / 2) % size - size / 2
    if np.hypot(*off) <= size / 16:
        return
    text = (
        f"the patterns are centred at ({centre[0]:.1f}, {centre[1]:.1f}), {np.hypot(*off):.0f} px from where this "
        f"probe would have them, ({expected[0]:.1f}, {expected[1]:.1f}), both found as {CENTRE_FOUND_BY}"
    )
    corner = np.abs(np.abs(off) - size / 2).max() <= size / 8
    yield Suspicion.NOT_CENTRED, text + (": zero frequency seems to lie in the corner" if corner else "")


def _positions(inspection: Inspection) -> Iterator[tuple[Suspicion, str]]:
    path, scan = inspection.path, inspection.scan
    if path.n_duplicates:
        yield Suspicion.DUPLICATE_POSITIONS, f"{path.n_duplicates} positions are shared with an earlier one"
    if path.grid_px is not None:
        one, other = path.grid_px
        text = (
            f"the positions form a grid with steps of {one:.3g} and {other:.3g} px: its period can show in the object"
        )
        yield Suspicion.RASTER, text
    if scan.object is not None:
        first = scan.positions_px - (scan.N - 1) / 2
        last = first + scan.N - 1
        outside = (first < -0.5).any(axis=1) | (last > np.asarray(scan.object.shape) - 0.5).any(axis=1)
        if outside.any():
            shape = " x ".join(map(str, scan.object.shape))
            text = f"{np.count_nonzero(outside)} patches reach beyond the object of {shape} px"
            yield Suspicion.OUTSIDE_OBJECT, text


def _overlap(inspection: Inspection) -> Iterator[tuple[Suspicion, str]]:
    path, diameter, overlap = inspection.path, inspection.probe.diameter_px, inspection.linear_overlap
    if overlap is None:
        return
    lonely = np.flatnonzero(path.nearest_px > diameter)
    if lonely.size:
        text = f"{lonely.size} positions are further than the probe's {diameter:.3g} px from all others"
        yield Suspicion.LONELY_POSITIONS, text
    if overlap < 0.5:
        text = (
            f"neighbours lie {path.spacing_px:.3g} px apart under a probe of {diameter:.3g} px, a linear overlap of "
            f"{max(overlap, 0.0):.0%}; 60 to 70 % is usual (Bunk et al., Ultramicroscopy 108, 481 (2008)): do "
            "positions and probe have the same pixel?"
        )
        yield Suspicion.LITTLE_OVERLAP, text


def _probe(inspection: Inspection) -> Iterator[tuple[Suspicion, str]]:
    probe, mean = inspection.probe, float(inspection.detector.photons.mean())
    if not 1 / _ALIKE <= probe.photons / mean <= _ALIKE:
        text = f"the probe holds {probe.photons:.3g} photons, the patterns {mean:.3g} on average: its scale is its own"
        yield Suspicion.PROBE_FLUX, text
    if probe.rim_share > _RIM_SHARE:
        text = f"{probe.rim_share:.1%} of the probe's power lies in the rim of its array: it may be cut off"
        yield Suspicion.PROBE_CUT, text
    # A sample widens the light on the detector and cannot gather it.
    if inspection.reach_px < _NARROWER * inspection.expected_reach_px:
        text = (
            f"the probe would light the detector up to {inspection.expected_reach_px:.3g} px about the middle (90 % of "
            f"its light), and the patterns end at {inspection.reach_px:.3g} px: are its lengths right, and energy, "
            "distance and detector pixel?"
        )
        yield Suspicion.PROBE_LIGHT, text
