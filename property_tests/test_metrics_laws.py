"""Laws of the comparison: blind to the gauge, symmetric ring correlation, nothing for featureless objects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core.results.gauge import find_ramp, plane_wave
from ptycho_core.results.metrics import compare, frc
from strategies_physics import seeds

SIZE = 48
Complex = npt.NDArray[np.complex128]


def _texture(seed: int) -> Complex:
    noise = np.random.default_rng(seed).normal(size=(2, SIZE, SIZE))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    result: Complex = (1 + 0.05 * smooth[0]) * np.exp(0.35j * smooth[1])
    return result


ramps = st.tuples(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))


@settings(max_examples=30, deadline=None)
@given(seeds, ramps, st.floats(0.01, 100), st.floats(-3, 3))
def test_gauge_costs_nothing(seed: int, ramp: tuple[float, float], scale: float, phase: float) -> None:
    """Any factor, phase and ramp on the reconstruction leaves a perfect score and is reported."""
    truth = _texture(seed)

    result = compare(scale * np.exp(1j * phase) * plane_wave((SIZE, SIZE), ramp) * truth, truth)

    assert result.phase_correlation == pytest.approx(1.0)
    assert result.amplitude_correlation == pytest.approx(1.0)
    assert result.scale == pytest.approx(1 / scale)
    np.testing.assert_allclose(result.ramp_rad_per_px, ramp, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * result.phase_rad), np.exp(1j * phase), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seeds, ramps, st.floats(0, 10))
def test_flat_objects_score_zero(seed: int, ramp: tuple[float, float], level: float) -> None:
    """Whatever tilt a featureless object has, it correlates with nothing, and every figure is finite."""
    result = compare(level * plane_wave((SIZE, SIZE), ramp), _texture(seed))

    assert result.phase_correlation == 0.0
    assert result.amplitude_correlation == 0.0
    assert all(np.isfinite(value) for value in result.figures().values())


@settings(max_examples=30, deadline=None)
@given(seeds, st.tuples(st.integers(-6, 6), st.integers(-6, 6)))
def test_whole_pixel_displacements_are_found(seed: int, shift: tuple[int, int]) -> None:
    """A displaced object is registered exactly and scores perfectly on the pixels that both show."""
    truth = _texture(seed)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[8:-8, 8:-8] = True

    result = compare(np.roll(truth, shift, axis=(0, 1)), truth, mask=mask)

    np.testing.assert_array_equal(result.shift_px, shift)
    assert result.phase_correlation == pytest.approx(1.0)


@given(seeds, seeds, st.floats(0.1, 10))
def test_ring_correlation_is_symmetric_bounded_and_blind_to_scale(one: int, other: int, scale: float) -> None:
    """frc(a, b) = frc(b, a), within [-1, 1], unchanged by a positive factor, and 1 for a with itself."""
    a, b = _texture(one), _texture(other)

    forward = frc(a, b).correlation

    np.testing.assert_allclose(frc(b, a).correlation, forward, atol=1e-12)
    np.testing.assert_allclose(frc(scale * a, b).correlation, forward, atol=1e-9)
    np.testing.assert_allclose(frc(a, a).correlation, 1.0)
    assert (np.abs(forward) <= 1 + 1e-12).all()


@given(ramps, st.integers(2, 40), st.integers(2, 40))
def test_ramp_of_a_plane_wave_is_its_own(ramp: tuple[float, float], height: int, width: int) -> None:
    """The best plane wave of a plane wave is itself, on any frame."""
    np.testing.assert_allclose(find_ramp(plane_wave((height, width), ramp), max_rad_per_px=1.0), ramp, atol=1e-9)
