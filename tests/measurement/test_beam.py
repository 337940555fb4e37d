"""The direct beam is found where it is, by whole pixels, whatever else is on the detector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.measurement.beam import beam_offset_px
from ptycho_core.simulation.simulate import SimulationConfig, simulate

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
