"""Probes computed from the optics: widths, foci and limits against closed forms."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from scipy.special import j1

from ptycho_core.errors import ScanError
from ptycho_core.physics.optics import far_field, inverse_far_field
from ptycho_core.physics.probe_models import (
    ElectronLens,
    FocusedRectangle,
    GaussianBeam,
    ProbeFrame,
    ProbeModel,
    ZonePlate,
    model_probe,
)

FRAME = ProbeFrame(size_px=128, pixel_m=20e-9, wavelength_m=1e-10)
PLATE = ZonePlate(outermost_zone_m=60e-9, diameter_m=160e-6, stop_m=60e-6, defocus_m=6e-4)
LENS = FocusedRectangle(width_m=200e-6, height_m=100e-6, focal_length_m=0.1)
MODELS = [PLATE, attrs.evolve(PLATE, stop_m=0.0), GaussianBeam(fwhm_m=3e-7, defocus_m=-1e-3), LENS]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_photons_are_kept(model: ProbeModel) -> None:
    """Whatever the model, one mode of the frame's size holds the photons that were asked for."""
    probe = model_probe(model, FRAME, photons=3e5)

    assert probe.shape == (1, 128, 128)
    assert np.sum(np.abs(probe) ** 2) == pytest.approx(3e5, rel=1e-12)


def test_a_rectangle_in_focus_is_a_product_of_sincs() -> None:
    """The focal field of a rectangular aperture is sinc(w x / λf) sinc(h y / λf)."""
    probe = model_probe(LENS, FRAME, photons=1.0)[0]

    position_m = (np.arange(128) - 64) * FRAME.pixel_m
    scale = 1.0 / (FRAME.wavelength_m * LENS.focal_length_m)
    expected = np.outer(np.sinc(LENS.height_m * position_m * scale), np.sinc(LENS.width_m * position_m * scale))
    middle = slice(44, 85)
    ratio = probe[middle, middle].real / probe[64, 64].real
    np.testing.assert_allclose(ratio, expected[middle, middle], atol=0.02)


def test_a_zone_plate_in_focus_is_an_airy_disc() -> None:
    """Without a stop the focus is 2 J1(v) / v with v = π r / Δr (first zero at 1.22 Δr)."""
    plate = ZonePlate(outermost_zone_m=120e-9, diameter_m=160e-6, defocus_m=0.0)

    probe = model_probe(plate, FRAME, photons=1.0)[0]

    radius_m = np.arange(1, 20) * FRAME.pixel_m
    v = np.pi * radius_m / plate.outermost_zone_m
    np.testing.assert_allclose(probe[64, 65:84].real / probe[64, 64].real, 2.0 * j1(v) / v, atol=0.02)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_defocused_zone_plate_is_the_shadow_of_its_pupil(sign: float) -> None:
    """Out of focus the light lies in the ring between the rays of stop and rim: radius |z| λ / (2 Δr)."""
    probe = model_probe(attrs.evolve(PLATE, defocus_m=sign * PLATE.defocus_m), FRAME, photons=1.0)[0]

    outer_px = PLATE.defocus_m * FRAME.wavelength_m / (2.0 * PLATE.outermost_zone_m) / FRAME.pixel_m
    inner_px = outer_px * PLATE.stop_m / PLATE.diameter_m
    y, x = np.indices(probe.shape) - 64
    radius = np.hypot(y, x)
    light = np.abs(probe) ** 2
    assert light[radius < 0.8 * inner_px].sum() < 0.04
    assert light[(radius > 0.9 * inner_px) & (radius < 1.1 * outer_px)].sum() > 0.85


def test_behind_the_focus_the_wavefront_diverges() -> None:
    """The phase grows outwards behind the focus and falls before it."""
    beam = GaussianBeam(fwhm_m=2e-7, defocus_m=2e-3)
    behind = model_probe(beam, FRAME, photons=1.0)[0]
    before = model_probe(attrs.evolve(beam, defocus_m=-2e-3), FRAME, photons=1.0)[0]

    assert np.angle(behind[64, 69] / behind[64, 64]) > 0.1
    np.testing.assert_allclose(before, behind.conj(), atol=1e-12)


def test_a_gaussian_beam_obeys_free_space() -> None:
    """The closed form at a distance is the waist carried there by the transfer function -π λ z q²."""
    beam = GaussianBeam(fwhm_m=3e-7, defocus_m=1.5e-3)
    waist = model_probe(attrs.evolve(beam, defocus_m=0.0), FRAME, photons=1.0)[0]
    q = (np.arange(128) - 64) / (128 * FRAME.pixel_m)
    q2 = q[:, None] ** 2 + q[None, :] ** 2

    carried = inverse_far_field(far_field(waist) * np.exp(-1j * np.pi * FRAME.wavelength_m * beam.defocus_m * q2))

    there = model_probe(beam, FRAME, photons=1.0)[0]
    assert abs(np.vdot(carried, there)) == pytest.approx(1.0, abs=1e-9)


def test_the_width_of_a_gaussian_waist() -> None:
    """In the waist the intensity falls to one half at half the width."""
    probe = model_probe(GaussianBeam(fwhm_m=400e-9), FRAME, photons=1.0)[0]

    assert abs(probe[64, 74] / probe[64, 64]) ** 2 == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "frame", "found"),
    [
        (attrs.evolve(PLATE, diameter_m=-1.0), FRAME, "diameter_m: expected a number of metres from"),
        (attrs.evolve(PLATE, stop_m=200e-6), FRAME, "stop_m: expected less than diameter_m"),
        (attrs.evolve(PLATE, defocus_m=float("nan")), FRAME, "defocus_m: expected a number of metres within"),
        (attrs.evolve(PLATE, outermost_zone_m=15e-9), FRAME, "outermost_zone_m: expected a pupil within 0.5"),
        (attrs.evolve(PLATE, defocus_m=1.0), FRAME, "defocus_m: expected a beam within the frame of 128 px"),
        (attrs.evolve(LENS, focal_length_m=100.0), FRAME, "size_px: expected a focus smaller than the frame"),
        (GaussianBeam(fwhm_m=1e-9), FRAME, "fwhm_m: expected at least one object pixel"),
        (GaussianBeam(fwhm_m=2e-6), FRAME, "fwhm_m, defocus_m: expected a beam within half the frame"),
        (PLATE, attrs.evolve(FRAME, size_px=4), "size_px: expected at least 8 px"),
        (PLATE, attrs.evolve(FRAME, wavelength_m=0.0), "wavelength_m: expected a number of metres from 1e-15"),
    ],
)
def test_what_cannot_be_sampled_is_refused(model: ProbeModel, frame: ProbeFrame, found: str) -> None:
    """Numbers out of range and beams that the frame cannot hold are named."""
    with pytest.raises(ScanError, match=found):
        model_probe(model, frame, photons=1e5)


@pytest.mark.parametrize(("part", "fits"), [(0.98, True), (1.02, False)])
def test_a_beam_may_fill_the_frame_and_no_more(part: float, fits: bool) -> None:
    """The shadow of the pupil reaches the edge at |z| = N Δx Δr / λ, and is refused beyond."""
    reach_m = FRAME.size_px * FRAME.pixel_m * PLATE.outermost_zone_m / FRAME.wavelength_m
    plate = attrs.evolve(PLATE, defocus_m=part * reach_m)

    if fits:
        assert model_probe(plate, FRAME, photons=1.0).shape == (1, 128, 128)
    else:
        with pytest.raises(ScanError, match="defocus_m"):
            model_probe(plate, FRAME, photons=1.0)


ELECTRONS = ProbeFrame(size_px=256, pixel_m=2e-11, wavelength_m=1.9687e-12)


def test_an_electron_lens_in_focus_is_an_airy_disc() -> None:
    """Without aberration the focus is 2 J1(v) / v with v = 2π α r / λ."""
    lens = ElectronLens(semi_angle_rad=0.015, defocus_m=0.0)
    probe = model_probe(lens, ELECTRONS, photons=1.0)[0]

    radius_m = np.arange(1, 20) * ELECTRONS.pixel_m
    v = 2.0 * np.pi * lens.semi_angle_rad * radius_m / ELECTRONS.wavelength_m
    ratio = probe[128, 129:148].real / probe[128, 128].real
    np.testing.assert_allclose(ratio, 2.0 * j1(v) / v, atol=0.02)


def test_spherical_aberration_delays_the_rim_of_the_pupil() -> None:
    """In the pupil the phase is -χ with χ = π λ Cs (α/λ)⁴ λ² / 2 + π λ z (α/λ)², as the textbook has it."""
    lens = ElectronLens(semi_angle_rad=0.02, defocus_m=-2e-8, cs_m=1e-3 / 50)
    pupil = far_field(model_probe(lens, ELECTRONS, photons=1.0))[0]

    q_per_m = np.arange(1, 40) / (256 * ELECTRONS.pixel_m)
    wavelength = ELECTRONS.wavelength_m
    chi = 0.5 * np.pi * lens.cs_m * wavelength**3 * q_per_m**4 + np.pi * wavelength * lens.defocus_m * q_per_m**2
    phase = np.angle(pupil[128, 129:168] / pupil[128, 128])
    np.testing.assert_allclose(np.exp(1j * phase), np.exp(-1j * chi), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"semi_angle_rad": 0.0}, "semi_angle_rad: expected an angle above 0"),
        ({"semi_angle_rad": 0.06}, "semi_angle_rad: expected a pupil within 0.5 cycles"),
        ({"cs_m": 0.01}, "defocus_m: expected a beam within the frame"),
    ],
)
def test_an_electron_probe_that_does_not_fit_is_refused(change: dict[str, float], words: str) -> None:
    """No angle, one that the pixels do not resolve, a disc of confusion wider than the frame."""
    lens = attrs.evolve(ElectronLens(semi_angle_rad=0.02, defocus_m=0.0), **change)

    with pytest.raises(ScanError, match=words):
        model_probe(lens, ELECTRONS, photons=1.0)
