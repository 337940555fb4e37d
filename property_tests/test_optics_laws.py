"""Laws of the forward model: unitarity, adjoints, invariances, equivariances."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.physics.canvas import CanvasFrame, canvas_frame
from ptycho_core.physics.optics import (
    accumulate_patches,
    expected_counts,
    extract_patches,
    far_field,
    inverse_far_field,
    poisson_deviance,
)
from strategies_physics import Placement, complex_arrays, placements, positions, seeds, sizes


@given(st.data(), sizes)
def test_far_field_is_unitary(data: st.DataObject, size: int) -> None:
    """Inner products survive the far field, and its inverse is its adjoint."""
    a, b = data.draw(complex_arrays(2, size, size))

    np.testing.assert_allclose(np.vdot(far_field(a), far_field(b)), np.vdot(a, b), atol=1e-9)
    np.testing.assert_allclose(np.vdot(b, inverse_far_field(a)), np.vdot(far_field(b), a), atol=1e-9)
    np.testing.assert_allclose(inverse_far_field(far_field(a)), a, atol=1e-10)


@given(st.data(), sizes, st.integers(1, 3), st.floats(-10, 10), st.floats(0.1, 10))
def test_counts_ignore_phase_and_square_the_scale(
    data: st.DataObject, size: int, modes: int, phase: float, scale: float
) -> None:
    """A global phase of object or mode changes nothing; a factor on the probe squares into the counts."""
    probe = data.draw(complex_arrays(modes, size, size))
    patch = data.draw(complex_arrays(size, size))
    counts = expected_counts(patch, probe)

    turned = probe * np.exp(1j * phase * np.arange(1, modes + 1))[:, None, None]
    np.testing.assert_allclose(expected_counts(patch * np.exp(1j * phase), turned), counts, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(expected_counts(patch, scale * probe), scale**2 * counts, rtol=1e-9, atol=1e-9)


@given(st.data(), sizes, st.integers(1, 3))
def test_counts_are_the_energy_behind_the_object(data: st.DataObject, size: int, modes: int) -> None:
    """Parseval: the counts of a frame sum to the energy of the exit waves over all modes."""
    probe = data.draw(complex_arrays(modes, size, size))
    patch = data.draw(complex_arrays(size, size))

    np.testing.assert_allclose(expected_counts(patch, probe).sum(), np.sum(np.abs(patch * probe) ** 2), rtol=1e-9)


@given(placements())
def test_extraction_and_accumulation_are_adjoint(case: Placement) -> None:
    """<extract(O), Q> = <O, accumulate(Q)> for complex O and Q, at any sub-pixel position and origin."""
    rng, n = case.rng, len(case.positions_px)
    object_ = rng.normal(size=case.shape) + 1j * rng.normal(size=case.shape)
    patches = rng.normal(size=(n, case.size, case.size)) + 1j * rng.normal(size=(n, case.size, case.size))
    frame = CanvasFrame(origin_px=case.origin_px, shape=case.shape)

    forward = np.vdot(patches, extract_patches(object_, case.positions_px, case.size, origin_px=case.origin_px))
    backward = np.vdot(accumulate_patches(patches, case.positions_px, frame), object_)

    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-9)


@given(placements(), st.integers(-40, 40), st.integers(-40, 40))
def test_whole_pixel_translation_is_an_equivariance(case: Placement, down: int, right: int) -> None:
    """Positions and origin moved together by whole pixels give the same patches."""
    object_ = case.rng.normal(size=case.shape)
    step = (down, right)
    origin = (case.origin_px[0] + down, case.origin_px[1] + right)

    np.testing.assert_allclose(
        extract_patches(object_, case.positions_px + np.array(step), case.size, origin_px=origin),
        extract_patches(object_, case.positions_px, case.size, origin_px=case.origin_px),
        atol=1e-9,
    )


@given(placements(), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_bilinear_extraction_is_exact_for_planes(case: Placement, level: float, down: float, right: float) -> None:
    """An object linear in y and x is sampled exactly, each patch pixel at its own coordinate."""
    rows, columns = np.arange(case.shape[0]), np.arange(case.shape[1])
    plane = level + down * (rows[:, None] + case.origin_px[0]) + right * (columns[None, :] + case.origin_px[1])

    patches = extract_patches(plane, case.positions_px, case.size, origin_px=case.origin_px)

    offset = np.arange(case.size) - (case.size - 1) / 2
    y, x = case.positions_px[:, 0, None, None], case.positions_px[:, 1, None, None]
    expected = level + down * (y + offset[:, None]) + right * (x + offset[None, :])
    np.testing.assert_allclose(patches, expected, atol=1e-9)


@given(positions(low=-30, high=30), sizes)
def test_canvas_is_the_tightest_for_bilinear_footprints(points: np.typing.NDArray[np.float64], size: int) -> None:
    """Every footprint lies on the canvas, and each side of the canvas is touched by one."""
    frame = canvas_frame(points, size)
    whole = np.floor(points - (size - 1) / 2) - np.array(frame.origin_px)

    assert (whole.min(axis=0) == 0).all()
    assert tuple(whole.max(axis=0) + size + 1) == frame.shape
    total = accumulate_patches(np.ones((len(points), size, size)), points, frame).sum()
    np.testing.assert_allclose(total, len(points) * size**2)


@given(seeds, st.floats(0.01, 100))
def test_deviance_is_least_at_the_truth(seed: int, factor: float) -> None:
    """The deviance is never negative, and zero only where rates equal counts."""
    counts = np.random.default_rng(seed).integers(0, 50, (3, 4)).astype(float)
    rate = np.maximum(counts, 1e-3) * factor

    assert poisson_deviance(rate, counts) >= 0
    assert poisson_deviance(np.maximum(counts, 1e-12), counts) < 1e-9
