"""The direct beam is found where it is, by whole pixels, whatever else is on the detector."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.errors import ScanError
from ptycho_core.measurement.beam import MASS, SYMMETRY, beam_offset_px, find_beam_centre
from ptycho_core.physics.probes import ProbeKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate

HXN = Path(__file__).parents[3] / "shared" / "data" / "hxn_20frames.cxi"
SCAN = simulate(SimulationConfig(object_size_px=100, step_px=9.0, photons=1e5, seed=2))
MEAN = SCAN.counts().mean(axis=0, dtype=np.float64)


@given(row=st.integers(-32, 31), column=st.integers(-32, 31), level=st.floats(0.0, 20.0))
def test_any_offset_is_found_under_any_even_background(row: int, column: int, level: float) -> None:
    """The mean pattern may be rolled anywhere, the corner included, and lie on a pedestal."""
    assert beam_offset_px(np.roll(MEAN, (row, column), axis=(0, 1)) + level, SCAN.probe) == (row, column)


@given(row=st.integers(0, 63), column=st.integers(0, 63), counts=st.floats(0.0, 1e9))
def test_a_single_pixel_has_no_say(row: int, column: int, counts: float) -> None:
    """However hot it is."""
    hot = MEAN.copy()
    hot[row, column] = counts
    assert beam_offset_px(hot, SCAN.probe) == (0, 0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_scale_of_the_probe_does_not_matter(scale: float) -> None:
    """Nor does that of the light."""
    assert beam_offset_px(np.roll(MEAN, 5, axis=0), (scale * SCAN.probe).astype(np.complex64)) == (5, 0)


def test_masked_pixels_are_not_looked_at() -> None:
    """A block of the detector with nonsense in it leaves the beam where it is."""
    bad = np.zeros(MEAN.shape, dtype=bool)
    bad[5:12, 40:50] = True
    assert beam_offset_px(np.where(bad, 1e5, MEAN), SCAN.probe, bad) == (0, 0)


def test_darkness_shows_no_beam() -> None:
    """No light, no offset."""
    assert beam_offset_px(np.zeros((16, 16)), np.ones((1, 16, 16), complex)) == (0, 0)


GAUSSIAN = np.exp(-np.square(np.arange(64) - 31.5)[:, None] / 50.0 - np.square(np.arange(64) - 31.5) / 50.0)


@given(row=st.integers(-32, 31), column=st.integers(-32, 31), level=st.floats(0.0, 20.0))
def test_a_probe_that_is_nothing_like_the_beam_does_not_say_where_it_is(row: int, column: int, level: float) -> None:
    """A Gaussian would lie anywhere on the ring of a zone plate; the mean pattern's own symmetry has its middle."""
    seen = np.roll(MEAN, (row, column), axis=(0, 1)) + level

    found = np.array(beam_offset_px(seen, GAUSSIAN.astype(complex)))

    off = (found - (row, column) + 32) % 64 - 32
    assert np.abs(off).max() <= 1


def test_a_pattern_without_symmetry_says_nothing() -> None:
    """Three spots of light, and a probe that would have it in one: the beam is left where it is."""
    light = np.zeros((64, 64))
    light[10:16, 10:16] = 9.0
    light[30:36, 12:18] = 9.0
    light[14:20, 50:56] = 9.0
    assert beam_offset_px(light, np.ones((64, 64), complex)) == (0, 0)


NOTHING_BAD = np.zeros((90, 110), dtype=bool)


def _on_detector(
    mean: np.ndarray[tuple[int, ...], np.dtype[np.float64]], row: int, column: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A detector of 90 x 110 px with a pattern's zero frequency at (row, column)."""
    frame = np.zeros((218, 238))
    frame[32 + row : 96 + row, 32 + column : 96 + column] = mean
    return frame[64:154, 64:174]


@given(row=st.integers(32, 58), column=st.integers(32, 78), level=st.floats(0.0, 20.0), slope=st.floats(0.0, 2.0))
def test_the_centre_is_found_anywhere_in_a_rectangle(row: int, column: int, level: float, slope: float) -> None:
    """Also on a pedestal, and where the illumination is up to three times as bright at one side of the frame."""
    uneven = 1.0 + slope * np.linspace(0.0, 1.0, 110)
    found = find_beam_centre(_on_detector(MEAN, row, column) * uneven + level, NOTHING_BAD)

    assert found.found_by == SYMMETRY
    assert np.abs(np.subtract(found.place_px, (row, column))).max() <= 0.5


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_gaps_and_hot_pixels_do_not_move_the_centre(kind: ProbeKind) -> None:
    """A masked gap through the beam and single readings beyond all others."""
    scan = simulate(SimulationConfig(probe_kind=kind, object_size_px=100, step_px=9.0, photons=1e5, seed=3))
    bad = NOTHING_BAD.copy()
    bad[38:43] = True
    frame = _on_detector(scan.counts().mean(axis=0, dtype=np.float64), 40, 61)
    frame[bad] = 0.0
    frame[3, 99] = 1e9

    found = find_beam_centre(frame, bad)

    assert np.abs(np.subtract(found.place_px, (40, 61))).max() <= 0.5


def test_light_without_symmetry_has_a_centre_of_mass() -> None:
    """A triangle is not like any half turn of its own."""
    frame = np.zeros((60, 70))
    rows, columns = np.nonzero(np.tri(30))
    frame[20 + rows, 25 + columns] = 50.0

    found = find_beam_centre(frame, np.zeros(frame.shape, dtype=bool))

    assert found.found_by == MASS
    assert found.place_px == pytest.approx((20 + rows.mean(), 25 + columns.mean()), abs=0.5)


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_a_detector_without_light_has_no_beam(level: float) -> None:
    """Whatever its pedestal; the message has the flags."""
    with pytest.raises(ScanError, match="say where with --centre-y and --centre-x"):
        find_beam_centre(np.full((20, 30), level), np.zeros((20, 30), dtype=bool))


@pytest.mark.skipif(not HXN.exists(), reason="the measured scan of the nanoprobe is not on this machine")
def test_an_uneven_ring_has_its_middle() -> None:
    """Of the nanoprobe scan, whose centre of mass lies 3 px off the middle of its ring at (128, 128)."""
    with h5py.File(HXN) as file:
        mean = file["entry_1/data_1/data"][()].mean(axis=0, dtype=np.float64)

    for bottom, left in ((0, 0), (31, 47)):
        frame = np.pad(mean, ((5, bottom), (left, 11)))
        found = find_beam_centre(frame, np.zeros(frame.shape, dtype=bool))
        assert np.abs(np.subtract(found.place_px, (128 + 5, 128 + left))).max() <= 1.0
