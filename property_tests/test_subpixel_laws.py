"""Laws of sub-pixel positions and of holding out a region."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.measurement.splitting import split_region
from ptycho_core.physics.subpixel import scan_counts, shift_probe, split_positions
from strategies_physics import complex_arrays, positions, seeds

probes = complex_arrays(2, 9, 9)
shifts = st.tuples(st.floats(-4, 4), st.floats(-4, 4)).map(np.array)


@given(positions(low=-50, high=50), st.integers(1, 64))
def test_positions_are_split_without_loss(where: npt.NDArray[np.float64], size: int) -> None:
    """Whole part and rest add up; patches of the whole part start on pixels; the rest is at most half a pixel."""
    whole, rest = split_positions(where, size)

    np.testing.assert_allclose(whole + rest, where, atol=1e-12)
    np.testing.assert_array_equal((whole - (size - 1) / 2) % 1, 0)
    assert ((rest >= -0.5 - 1e-12) & (rest < 0.5 + 1e-12)).all()


@given(probes, shifts, shifts)
def test_moves_add_up(
    probe: npt.NDArray[np.complex128], first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> None:
    """Moving twice is moving by the sum, and moving back is no move (odd frames have no Nyquist frequency)."""
    once = shift_probe(probe, first + second)

    np.testing.assert_allclose(shift_probe(shift_probe(probe, first), second), once, atol=1e-9)
    np.testing.assert_allclose(shift_probe(once, -first - second), probe, atol=1e-9)


@given(probes, shifts)
def test_moving_keeps_the_energy(probe: npt.NDArray[np.complex128], shift: npt.NDArray[np.float64]) -> None:
    """A phase ramp has modulus one."""
    np.testing.assert_allclose(np.sum(np.abs(shift_probe(probe, shift)) ** 2), np.sum(np.abs(probe) ** 2))


@given(probes, st.integers(-9, 9), st.integers(-9, 9))
def test_whole_moves_are_rolls(probe: npt.NDArray[np.complex128], down: int, right: int) -> None:
    """By whole pixels the content rolls down and to the right."""
    moved = shift_probe(probe, np.array([down, right]))

    np.testing.assert_allclose(moved, np.roll(probe, (down, right), axis=(-2, -1)), atol=1e-9)


@given(positions(low=6, high=20), seeds)
def test_a_transparent_object_transmits_every_photon(where: npt.NDArray[np.float64], seed: int) -> None:
    """At any position each frame holds the photons of the probe, plus background."""
    rng = np.random.default_rng(seed)
    probe = rng.normal(size=(2, 9, 9)) + 1j * rng.normal(size=(2, 9, 9))

    counts = scan_counts(np.ones((27, 27), complex), probe, where, background=0.25)

    np.testing.assert_allclose(counts.sum(axis=(1, 2)), np.sum(np.abs(probe) ** 2) + 0.25 * 81)


@given(positions(low=0, high=100, max_size=40), st.floats(0, 0.5))
def test_a_split_is_a_partition(where: npt.NDArray[np.float64], fraction: float) -> None:
    """Every pattern is on exactly one side, sorted, with as many held out as asked for."""
    split = split_region(where, fraction)

    assert sorted([*split.train, *split.validation]) == list(range(len(where)))
    assert len(split.validation) == round(fraction * len(where))
    assert (np.diff(split.train) > 0).all()
    assert (np.diff(split.validation) > 0).all()


@given(positions(low=0, high=100, max_size=40), st.floats(0, 0.5))
def test_a_straight_line_parts_the_sides(where: npt.NDArray[np.float64], fraction: float) -> None:
    """Along the scan's longer side, nothing that trains lies beyond anything that is held out."""
    split = split_region(where, fraction)
    along = where[:, np.argmax(np.ptp(where, axis=0))]

    if len(split.train) and len(split.validation):
        assert along[split.train].max() <= along[split.validation].min()
