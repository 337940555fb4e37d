"""The reference forward model against closed forms and independent libraries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats

from ptycho_core.errors import ScanError
from ptycho_core.physics.canvas import CanvasFrame, canvas_frame
from ptycho_core.physics.optics import (
    accumulate_patches,
    amplitude_mae,
    expected_counts,
    extract_patches,
    far_field,
    inverse_far_field,
    poisson_deviance,
)

Complex = npt.NDArray[np.complex128]


def _complex(rng: np.random.Generator, *shape: int) -> Complex:
    noise: Complex = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return noise


@pytest.mark.parametrize("size", [8, 9])
def test_plane_wave_lights_the_central_pixel(size: int) -> None:
    """A constant exit wave puts all its energy into the pixel size // 2."""
    pattern = np.abs(far_field(np.ones((size, size)))) ** 2

    expected = np.zeros((size, size))
    expected[size // 2, size // 2] = size**2
    np.testing.assert_allclose(pattern, expected, atol=1e-12)


@pytest.mark.parametrize("size", [8, 9])
def test_central_delta_becomes_a_flat_real_field(size: int) -> None:
    """A point at pixel size // 2 gives the constant 1 / size: no phase ramp is left by the shifts."""
    point = np.zeros((size, size))
    point[size // 2, size // 2] = 1.0

    np.testing.assert_allclose(far_field(point), np.full((size, size), 1 / size), atol=1e-14)


def test_gaussian_becomes_the_gaussian_of_the_closed_form() -> None:
    """exp(-r²/2s²) turns into 2πs²/n · exp(-2π²s²q²), q in cycles per pixel."""
    size, width = 64, 4.0
    grid = np.arange(size) - size // 2
    radius2 = grid[:, None] ** 2 + grid[None, :] ** 2
    expected = 2 * np.pi * width**2 / size * np.exp(-2 * np.pi**2 * width**2 * radius2 / size**2)

    np.testing.assert_allclose(far_field(np.exp(-radius2 / (2 * width**2))), expected, atol=1e-12)


@pytest.mark.parametrize("size", [6, 7])
def test_far_field_is_the_centred_fourier_sum(size: int) -> None:
    """Each detector pixel is (1/n)·Σ ψ(r)·exp(-2πi·q·r/n) with r and q counted from n // 2."""
    wave = _complex(np.random.default_rng(1), size, size)
    grid = np.arange(size) - size // 2
    kernel = np.exp(-2j * np.pi * np.outer(grid, grid) / size)

    np.testing.assert_allclose(far_field(wave), kernel @ wave @ kernel.T / size, atol=1e-12)


def test_inverse_undoes_the_far_field() -> None:
    """The inverse agrees with scipy's inverse transform and brings the exit wave back."""
    wave = _complex(np.random.default_rng(2), 3, 8, 8)
    detector = far_field(wave)
    shifted = scipy.fft.ifftshift(detector, axes=(1, 2))

    np.testing.assert_allclose(inverse_far_field(detector), wave, atol=1e-13)
    np.testing.assert_allclose(
        scipy.fft.fftshift(scipy.fft.ifft2(shifted, norm="ortho"), axes=(1, 2)), wave, atol=1e-13
    )


def test_transparent_object_passes_every_photon() -> None:
    """For O = 1 the counts of a frame sum to Σ|P|² over pixels and modes."""
    probe = _complex(np.random.default_rng(3), 2, 16, 16)

    counts = expected_counts(np.ones((1, 16, 16), dtype=complex), probe)

    assert counts.shape == (1, 16, 16)
    np.testing.assert_allclose(counts.sum(), np.sum(np.abs(probe) ** 2))


def test_modes_add_in_intensity() -> None:
    """Two modes that cancel as fields still give the sum of their intensities."""
    rng = np.random.default_rng(4)
    mode, patch = _complex(rng, 1, 16, 16), _complex(rng, 16, 16)

    both = expected_counts(patch, np.concatenate([mode, -mode]))

    np.testing.assert_allclose(both, 2 * expected_counts(patch, mode))


def test_background_is_added_to_every_pixel() -> None:
    """The background is a count per pixel, a number or an array."""
    rng = np.random.default_rng(5)
    probe, patch, floor = _complex(rng, 1, 8, 8), _complex(rng, 2, 8, 8), rng.random((8, 8))

    np.testing.assert_allclose(
        expected_counts(patch, probe, background=floor) - expected_counts(patch, probe), np.stack([floor] * 2)
    )


def test_probe_without_a_mode_axis_is_refused() -> None:
    """A (N, N) probe is an error: broadcasting it would mix rows and modes."""
    with pytest.raises(ValueError, match=r"probe: expected shape \(modes, 8, 8\), found \(8, 8\)"):
        expected_counts(np.ones((8, 8)), np.ones((8, 8)))


@pytest.mark.parametrize("size", [5, 6])
def test_extraction_is_linear_interpolation(size: int) -> None:
    """Patches agree with scipy's map_coordinates of order 1, sampled from y - (n - 1)/2 on."""
    rng = np.random.default_rng(6)
    object_ = _complex(rng, 24, 30)
    positions = rng.uniform([4.0, 4.0], [19.0, 25.0], (7, 2))

    patches = extract_patches(object_, positions, size)

    for patch, (y, x) in zip(patches, positions, strict=True):
        grid = np.mgrid[:size, :size] + np.array([y, x])[:, None, None] - (size - 1) / 2
        real = scipy.ndimage.map_coordinates(object_.real, grid, order=1)
        imag = scipy.ndimage.map_coordinates(object_.imag, grid, order=1)
        np.testing.assert_allclose(patch, real + 1j * imag, atol=1e-12)


def test_patch_on_whole_pixels_is_a_slice() -> None:
    """With an odd size and a whole position, the patch is the slice centred there, up to the very corner."""
    object_ = np.arange(48.0).reshape(6, 8)

    patch = extract_patches(object_, np.array([[4.0, 6.0]]), 3)[0]

    np.testing.assert_array_equal(patch, object_[3:6, 5:8])


def test_origin_moves_the_object_not_the_patch() -> None:
    """An object whose first pixel lies at (5, -3) gives the same patch at shifted positions."""
    rng = np.random.default_rng(7)
    object_, positions = rng.normal(size=(20, 20)), rng.uniform(6, 13, (4, 2))

    moved = extract_patches(object_, positions + np.array([5, -3]), 8, origin_px=(5, -3))

    np.testing.assert_allclose(moved, extract_patches(object_, positions, 8), atol=1e-12)


@pytest.mark.parametrize("position", [(3.4, 10.0), (10.0, 3.4), (16.6, 10.0), (10.0, 16.6)])
def test_patch_that_sticks_out_is_refused(position: tuple[float, float]) -> None:
    """A patch reaching over any of the four borders is an error that names it, for both directions of the operator."""
    positions = np.array([(10.0, 10.0), position])

    with pytest.raises(ScanError, match=r"positions_px\[1\].*1 patches stick out"):
        extract_patches(np.ones((20, 20)), positions, 8)
    with pytest.raises(ScanError, match=r"positions_px\[1\]"):
        accumulate_patches(np.ones((2, 8, 8)), positions, CanvasFrame(shape=(20, 20)))


@pytest.mark.parametrize(
    ("positions", "size", "message"),
    [
        (np.zeros((3, 3)), 4, r"shape \(3, 3\)"),
        (np.array([[0.0, np.nan]]), 4, "NaN"),
        (np.zeros((1, 2)), 0, "at least 1 px"),
        (np.zeros((0, 2)), 4, "at least one"),
    ],
)
def test_unfit_positions_are_refused(positions: npt.NDArray[np.float64], size: int, message: str) -> None:
    """Positions of a wrong shape, not finite or absent, and sizes below one, are errors."""
    with pytest.raises(ScanError, match=message):
        canvas_frame(positions, size)


def test_accumulation_needs_a_patch_per_position() -> None:
    """Three patches for two positions are an error."""
    with pytest.raises(ValueError, match=r"expected shape \(2, size, size\)"):
        accumulate_patches(np.ones((3, 4, 4)), np.full((2, 2), 8.0), CanvasFrame(shape=(20, 20)))


def test_deviance_is_a_log_likelihood_ratio() -> None:
    """Times the number of pixels, the deviance is scipy's Poisson log-likelihood at λ = n less that at λ."""
    rng = np.random.default_rng(8)
    rate = rng.uniform(0.1, 30, (4, 8, 8))
    counts = rng.poisson(rate).astype(np.float64)
    perfect = np.sum(scipy.stats.poisson.logpmf(counts, np.maximum(counts, 1e-300)))
    actual = np.sum(scipy.stats.poisson.logpmf(counts, rate))

    assert poisson_deviance(rate, counts) * counts.size == pytest.approx(perfect - actual, rel=1e-10)


def test_deviance_vanishes_for_a_perfect_fit() -> None:
    """λ = n gives zero; where n = 0 the deviance is λ itself."""
    counts = np.array([[1.0, 7.0], [30.0, 500.0]])

    assert poisson_deviance(counts, counts) == 0.0
    assert poisson_deviance(np.full((2, 2), 0.25), np.zeros((2, 2))) == 0.25


def test_deviance_is_one_half_at_the_noise_floor() -> None:
    """With the true bright rate the mean deviance per pixel is 1/2 within its sampling error."""
    rng = np.random.default_rng(9)
    rate = np.full((100, 100), 400.0)

    assert poisson_deviance(rate, rng.poisson(rate).astype(float)) == pytest.approx(0.5, abs=4 * 0.71 / 100)


def test_bad_pixels_do_not_count() -> None:
    """Whatever a bad pixel holds, NaN included, the figures are those of the good pixels."""
    rate, counts = np.array([[[1.0, -4.0], [2.0, 3.0]]]), np.array([[[2.0, np.nan], [2.0, 0.0]]])
    bad = np.array([[False, True], [False, False]])
    good = rate[:, ~bad], counts[:, ~bad]

    assert poisson_deviance(rate, counts, bad_pixels=bad) == poisson_deviance(*good)
    assert amplitude_mae(rate, counts, bad_pixels=bad) == amplitude_mae(*good)


def test_amplitude_mae_by_hand() -> None:
    """|√4 - √9| and |√16 - √1| average to 2."""
    assert amplitude_mae(np.array([4.0, 16.0]), np.array([9.0, 1.0])) == 2.0


def test_impossible_rates_and_counts_are_refused() -> None:
    """A rate of zero has no likelihood, a negative count no meaning, and all-bad data no mean."""
    one = np.ones((2, 2))
    with pytest.raises(ValueError, match="add a background"):
        poisson_deviance(0 * one, one)
    with pytest.raises(ValueError, match="must not be negative"):
        poisson_deviance(one, -one)
    with pytest.raises(ValueError, match="must not be negative"):
        amplitude_mae(-one, one)
    with pytest.raises(ValueError, match="no good pixel"):
        poisson_deviance(one, one, bad_pixels=np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="expected the shape"):
        poisson_deviance(one, np.ones((2, 3)))
