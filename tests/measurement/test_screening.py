"""Screening: each fault of a detector in a simulated scan, what is said of it, and what must not be taken for one."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.scan import MeasurementDomain
from ptycho_core.measurement.screening import Screening, screen_patterns
from ptycho_core.physics.probes import ProbeKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate

Counts = npt.NDArray[np.generic]


@cache
def clean(kind: ProbeKind = ProbeKind.ZONE_PLATE, photons: float = 1e5) -> npt.NDArray[np.uint16]:
    """36 frames of 64 px."""
    config = SimulationConfig(object_size_px=101, step_px=6.0, jitter_px=2.0, photons=photons, seed=3, probe_kind=kind)
    return np.asarray(simulate(config).patterns).astype(np.uint16)


def spoiled(dtype: str = "uint32") -> npt.NDArray[np.float64]:
    """A copy to spoil; of any type, which is written as floating point for the sake of the checker."""
    return clean().astype(dtype)


def screened(
    patterns: Counts, mask: npt.NDArray[np.bool_] | None = None, *, full_scale: int | None = None
) -> Screening:
    found = screen_patterns(patterns, mask, full_scale=full_scale)
    assert found is not None
    return found


def said(found: Screening) -> dict[Suspicion, str]:
    kinds = [fault.kind for fault in found.faults]
    return {kind: "; ".join(fault.text for fault in found.faults if fault.kind is kind) for kind in kinds}


@pytest.mark.parametrize("kind", list(ProbeKind))
@pytest.mark.parametrize("photons", [30.0, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("domain", list(MeasurementDomain))
def test_simulated_scans_are_clean(kind: ProbeKind, photons: float, domain: MeasurementDomain) -> None:
    """Every probe at every dose, with rings and beams of few pixels and corners without a count."""
    counts = clean(kind, photons)
    values = counts if domain is MeasurementDomain.COUNTS else np.sqrt(counts.astype(np.float32))

    found = screen_patterns(values, domain=domain)

    assert found is not None
    assert said(found) == {}


def test_frames_without_noise_are_no_stuck_pixels() -> None:
    """A simulation without noise over nothing gives the same frame again and again."""
    frames = np.repeat(clean()[:1].astype(np.float64) + 0.25, 20, axis=0)

    assert said(screened(frames)) == {}


def test_hot_pixels_beside_each_other_are_found() -> None:
    """Two that touch, and four in a square, are hot all the same."""
    patterns = spoiled()
    places = [(5, 5), (5, 6), (40, 50), (40, 51), (41, 50), (41, 51)]
    for number, (y, x) in enumerate(places):
        patterns[:, y, x] = np.random.default_rng(number).poisson(20000, len(patterns))

    found = screened(patterns)

    assert np.argwhere(found.mask).tolist() == [list(place) for place in places]
    assert "6 pixels at (5, 5), (5, 6), (40, 50)" in said(found)[Suspicion.HOT_PIXELS]


def test_a_pixel_that_flashes_again_and_again_is_hot() -> None:
    """Many spikes on one pixel are the pixel's fault; a pixel with two is kept."""
    patterns = spoiled()
    patterns[[0, 1, 2, 34, 35], 8, 9] = 30000
    patterns[[3, 30], 50, 51] = 30000

    found = screened(patterns)

    assert np.argwhere(found.mask).tolist() == [[8, 9]]
    assert sorted(found.replaced[:, 0].tolist()) == [3, 30]
    assert "(8, 9) that flash" in said(found)[Suspicion.HOT_PIXELS]


def test_a_direct_beam_of_one_pixel_is_no_hot_one() -> None:
    """Where the light has its centre, a pixel may be far above its neighbours, as long as these share some of it."""
    y, x = np.mgrid[-16:16, -16:16]
    rate = 1e4 * np.exp(-(y**2 + x**2) / (2 * 0.42**2)) + 0.5
    patterns = np.random.default_rng(0).poisson(rate, (30, 32, 32)).astype(np.uint16)

    assert said(screened(patterns)) == {}


def test_bright_speckles_are_no_spikes() -> None:
    """A frame that scatters far more than all others, at a place where these are dark, is kept as it is."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-32:32, -32:32]
    dark = 100.0 * np.exp(-(x**2 + y**2) / 50.0) + 0.05
    speckle = 3000.0 * np.sinc((y - 20) / 2) ** 2 * np.sinc((x + 9) / 2) ** 2
    patterns = rng.poisson(dark, (40, 64, 64))
    patterns[7] = rng.poisson(dark + speckle)

    assert said(screened(patterns.astype(np.uint16))) == {}


def test_a_hole_in_the_light_is_not_dead() -> None:
    """Behind a central stop there is no light, at a low dose not a single count: that is measured."""
    y, x = np.mgrid[-32:32, -32:32]
    radius = np.hypot(y + 0.3, x - 0.4)
    rate = 2.0 * ((radius > 6) & (radius < 20))
    patterns = np.random.default_rng(2).poisson(rate, (60, 64, 64)).astype(np.uint16)

    assert said(screened(patterns)) == {}


@pytest.mark.parametrize("mask", [False, True])
def test_a_gap_with_a_hot_pixel_in_it_is_found(mask: bool) -> None:
    """Rows without light are a gap, whatever one of their pixels does; what the mask has is not said again."""
    patterns = spoiled()
    patterns[:, 20:23] = 0
    patterns[:, 21, 40] = 900
    known = np.zeros((64, 64), dtype=bool)
    known[20:23] = mask

    found = screened(patterns, known)

    assert np.flatnonzero((found.mask | known).all(axis=1)).tolist() == [20, 21, 22]
    assert int((found.mask | known).sum()) == 3 * 64
    assert ("rows 20 to 22" in said(found).get(Suspicion.DEAD_PIXELS, "")) is not mask


BLOCKS = {
    "corner": np.s_[:28, :28],
    "edge": np.s_[40:, 20:36],
    "inside": np.s_[20:28, 34:44],
}
"""A module, or a chip of one, that gives no counts."""


@pytest.mark.parametrize("place", BLOCKS)
def test_a_dead_block_is_found(place: str) -> None:
    """A rectangle without a count whose straight sides are lit, in a corner, at an edge or within."""
    patterns = spoiled()
    patterns[:, *BLOCKS[place]] = 0

    found = screened(patterns)

    expected = np.zeros((64, 64), dtype=bool)
    expected[BLOCKS[place]] = True
    np.testing.assert_array_equal(found.mask, expected)
    assert "a dead block" in said(found)[Suspicion.DEAD_PIXELS]


def test_dark_areas_that_are_no_rectangles_are_no_blocks() -> None:
    """Light may end at a circle, or at the straight edge of what was cut out of a larger frame."""
    y, x = np.mgrid[:64, :64] - 31.5
    bright_field = np.random.default_rng(1).poisson(50.0 * (np.hypot(y, x) < 25.0), (20, 64, 64))
    padded = spoiled()
    padded[:, :9], padded[:, :, :9] = 0, 0

    assert said(screened(bright_field)) == {}
    assert said(screened(padded)) == {}


@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535), ("uint32", 2**32 - 1)])
def test_the_largest_number_of_a_type_is_an_overflow_wherever_it_is(dtype: str, largest: int) -> None:
    """A single one is replaced, of the type that the file had; a pixel that often has one is masked."""
    patterns = np.minimum(spoiled(), 250)
    patterns[4, 60, 3] = largest
    patterns[::4, 1, 1] = largest

    found = screened(patterns, full_scale=int(np.iinfo(dtype).max))

    assert found.replaced.tolist() == [[4, 60, 3]]
    assert np.argwhere(found.mask).tolist() == [[1, 1]]
    assert "frame 4 (60, 3)" in said(found)[Suspicion.OVERFLOW]
    assert "(1, 1)" in said(found)[Suspicion.OVERFLOW]


def test_single_values_that_are_no_numbers_are_replaced() -> None:
    """What takes their place is the median of their neighbours in that frame; a pixel of them is masked."""
    patterns = spoiled("float32")
    patterns[3, 30, 31] = np.nan
    patterns[5, 30, 31] = np.inf
    patterns[::3, 12, 2] = np.nan

    found = screened(patterns)

    assert found.replaced.tolist() == [[3, 30, 31], [5, 30, 31]]
    around = np.delete(clean()[3, 29:32, 30:33].ravel(), 4)
    assert found.values[0] == np.median(around)
    assert np.argwhere(found.mask).tolist() == [[12, 2]]


def test_amplitudes_are_replaced_by_amplitudes() -> None:
    """The median is taken of counts, and its root takes the place."""
    patterns = np.sqrt(spoiled("float64"))
    patterns[3, 30, 31] = 300.0

    found = screen_patterns(patterns, domain=MeasurementDomain.AMPLITUDE)

    assert found is not None
    around = np.delete(clean()[3, 29:32, 30:33].ravel(), 4)
    assert found.replaced.tolist() == [[3, 30, 31]]
    assert found.values[0] == pytest.approx(np.sqrt(np.median(around)))


def test_noise_about_a_dark_level_is_negative_and_no_light() -> None:
    """Dark-subtracted data are clipped; a dark frame among them is one, although its noise has a sum above 0."""
    patterns = spoiled("float32")
    patterns[6] = 0.0
    patterns += np.random.default_rng(0).normal(0.0, 1.0, patterns.shape)

    found = screened(patterns)

    assert found.clip
    assert found.left_out.tolist() == [6]
    assert "negative values" in said(found)[Suspicion.NEGATIVE]
    assert not found.mask.any()


def test_values_about_zero_are_no_counts_to_clip() -> None:
    """Numbers that are as often negative as not are no photons at all: that is for the scan's validation to say."""
    patterns = np.random.default_rng(0).normal(0.0, 1.0, (12, 16, 16))

    assert not screened(patterns).clip


@pytest.mark.parametrize("number", [-1, -2])
def test_one_negative_number_in_all_frames_marks_a_gap(number: int) -> None:
    """Detectors write -1 or -2 where they have no pixel."""
    patterns = spoiled("int32")
    patterns[:, 30] = number

    found = screened(patterns)

    assert np.flatnonzero(found.mask.all(axis=1)).tolist() == [30]
    assert found.mask.sum() == 64
    assert not found.clip


def test_frames_are_named() -> None:
    """Runs of frames by their ends, with the reason for each."""
    patterns = spoiled("float32")
    patterns[3:6] = 0.0
    patterns[8] = np.nan
    patterns[20] = 60000.0

    found = screened(patterns)

    assert found.left_out.tolist() == [3, 4, 5, 8, 20]
    assert said(found)[Suspicion.DARK_FRAMES].startswith("frames 3 to 5 without light, where the median is 7")
    assert said(found)[Suspicion.NOT_FINITE].startswith("frame 8 ")
    assert said(found)[Suspicion.GLITCHED_FRAMES].startswith("frame 20 full of light")


def test_a_frame_of_twice_the_light_is_kept() -> None:
    """A source that flares is a measurement."""
    patterns = spoiled()
    patterns[9] *= 3

    assert said(screened(patterns)) == {}


def test_a_mask_of_the_other_sense_is_a_problem() -> None:
    """Where what is masked holds the light and what is left is dark, the mask is inverted; the right one is none."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:23] = True
    patterns = spoiled()
    patterns[:, mask] = 0

    problem = screened(patterns, ~mask).problem

    assert screened(patterns, mask).problem is None
    assert problem is not None
    assert "inverted" in problem.found
    assert "95%" in problem.found
    assert "invert it" in problem.fix


def test_a_large_mask_about_the_light_is_none() -> None:
    """A mask may leave the lit part of a large detector only."""
    mask = np.ones((64, 64), dtype=bool)
    mask[16:48, 16:48] = False

    assert screened(spoiled(), mask).problem is None


def test_what_is_left_of_a_stack_of_faults_is_for_validation() -> None:
    """Where nothing would remain, nothing is taken out."""
    found = screened(np.full((5, 16, 16), 65535, dtype=np.uint16))

    assert not found.mask.any()
    assert not found.left_out.size


def test_faults_say_what_was_done_or_not() -> None:
    """The same words with the remedy, or that all was left."""
    patterns = spoiled()
    patterns[7] = 0
    (fault,) = screened(patterns).faults

    assert fault.finding(mended=True).text == f"{fault.text}: left out, with the positions"
    assert fault.finding(mended=False).text == f"{fault.text}: left as found"


@pytest.mark.parametrize("stack", [np.zeros((3, 8)), np.zeros((3, 8, 9)), np.zeros((0, 8, 8)), np.ones((3, 4, 4))])
def test_what_is_no_stack_is_not_screened(stack: Counts) -> None:
    """Other shapes are for validation to refuse, and frames of a few pixels cannot be compared."""
    assert screen_patterns(stack) is None
