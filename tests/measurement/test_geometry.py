"""Geometry of a far-field experiment: wavelength, pixels and positions against tabulated and derived values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import constants

from ptycho_core.errors import ScanError
from ptycho_core.measurement.geometry import (
    detector_pixel_m,
    energy_from_wavelength,
    object_pixel_m,
    positions_m_from_px,
    positions_px_from_m,
    wavelength_from_energy,
)


def test_the_wavelength_agrees_with_tabulated_constants() -> None:
    """8.8 keV, a common energy, is 1.4089 Å by CODATA."""
    expected = constants.h * constants.c / (8800.0 * constants.e)

    assert wavelength_from_energy(energy_ev=8800.0) == pytest.approx(expected, rel=1e-15)
    assert wavelength_from_energy(energy_ev=8800.0) == pytest.approx(1.4089e-10, rel=1e-4)


def test_energy_and_wavelength_are_inverses() -> None:
    """A photon's energy comes back from its wavelength to the last bit or two."""
    for energy_ev in (92.0, 710.5, 12_398.4, 30_000.0):
        wavelength_m = wavelength_from_energy(energy_ev=energy_ev)
        assert energy_from_wavelength(wavelength_m=wavelength_m) == pytest.approx(energy_ev, rel=1e-15)


def test_the_object_pixel_is_the_one_whose_diffraction_angle_meets_the_detector_pixel() -> None:
    """A grating of period P px diffracts by λ/(P·Δx); the far field puts it on pixel N/P of the detector."""
    wavelength_m, distance_m, pixel_m, size_px, period_px = 1.4e-10, 2.335, 75e-6, 128, 8

    step_m = object_pixel_m(wavelength_m=wavelength_m, distance_m=distance_m, detector_pixel_m=pixel_m, size_px=size_px)

    angle_rad = wavelength_m / (period_px * step_m)
    assert distance_m * angle_rad / pixel_m == pytest.approx(size_px / period_px, rel=1e-14)
    spectrum = np.abs(np.fft.fft(1.0 + np.cos(2.0 * np.pi * np.arange(size_px) / period_px)))
    assert int(np.argmax(spectrum[1 : size_px // 2])) + 1 == size_px // period_px


def test_the_object_pixel_follows_from_a_published_geometry() -> None:
    """8.8 keV, 1.92 m, 172 µm pixels, 256 px: Δx = λz/(N·p) = 6.14 nm by hand."""
    wavelength_m = wavelength_from_energy(energy_ev=8800.0)

    step_m = object_pixel_m(wavelength_m=wavelength_m, distance_m=1.92, detector_pixel_m=172e-6, size_px=256)

    assert step_m == pytest.approx(1.408911e-10 * 1.92 / (256 * 172e-6), rel=1e-5)


def test_the_two_pixels_are_inverses() -> None:
    """The detector pixel comes back from the object pixel that it gave."""
    step_m = object_pixel_m(wavelength_m=1.4e-10, distance_m=2.0, detector_pixel_m=75e-6, size_px=64)

    back_m = detector_pixel_m(wavelength_m=1.4e-10, distance_m=2.0, pixel_m=step_m, size_px=64)

    assert back_m == pytest.approx(75e-6, rel=1e-15)


def test_positions_keep_order_and_sign() -> None:
    """Rows stay (y, x), nothing is flipped and the origin does not move."""
    positions_px = positions_px_from_m([[1e-6, -2e-6], [0.0, 5e-7]], pixel_m=1e-8)

    np.testing.assert_allclose(positions_px, [[100.0, -200.0], [0.0, 50.0]], rtol=1e-15)
    np.testing.assert_allclose(
        positions_m_from_px(positions_px, pixel_m=1e-8), [[1e-6, -2e-6], [0.0, 5e-7]], rtol=1e-15
    )


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_every_impossible_number_is_named(value: float) -> None:
    """Lengths that are not above zero and finite are refused, all in one error."""
    with pytest.raises(ScanError) as caught:
        object_pixel_m(wavelength_m=value, distance_m=value, detector_pixel_m=1.0, size_px=2)

    assert [problem.path for problem in caught.value.problems] == ["wavelength_m", "distance_m"]


def test_what_leaves_the_range_of_numbers_is_refused() -> None:
    """A result that overflows or vanishes raises instead of spreading infinities."""
    with pytest.raises(ScanError, match="wavelength_m"):
        wavelength_from_energy(energy_ev=5e-324)
    with pytest.raises(ScanError, match="object_pixel_m"):
        object_pixel_m(wavelength_m=1e-300, distance_m=1e-300, detector_pixel_m=1.0, size_px=2)
    with pytest.raises(ScanError, match="object_pixel_m"):
        object_pixel_m(wavelength_m=1.0, distance_m=1.0, detector_pixel_m=5e-324, size_px=1)


@pytest.mark.parametrize("positions", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [["a", "b"]]])
def test_positions_of_another_shape_are_refused(positions: list[list[float]]) -> None:
    """Only (n, 2) real numbers are positions."""
    with pytest.raises(ScanError, match="positions_m"):
        positions_px_from_m(positions, pixel_m=1.0)
