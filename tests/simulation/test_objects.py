"""Test objects and probes: ranges, fine structure, sampling, flux."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ptycho_core.physics.optics import far_field
from ptycho_core.physics.probes import (
    ProbeKind,
    aberrate,
    gaussian_probe,
    lit_diameter_px,
    make_probe,
    scaled_to,
    with_modes,
    zone_plate_probe,
)
from ptycho_core.simulation.objects import OBJECTS, ObjectKind, make_object


def test_every_kind_has_a_texture() -> None:
    """The registry is complete."""
    assert set(OBJECTS) == set(ObjectKind)


@pytest.mark.parametrize("kind", list(ObjectKind))
@pytest.mark.parametrize("shape", [(96, 130), (16, 16)])
def test_objects_keep_to_their_ranges(kind: ObjectKind, shape: tuple[int, int]) -> None:
    """Amplitude and phase stay in the ranges asked for, on any shape."""
    object_ = make_object(kind, shape, np.random.default_rng(1), phase_range_rad=-0.8, amplitude_range=(0.6, 0.9))

    assert object_.shape == shape
    assert object_.dtype == np.complex128
    amplitude, phase = np.abs(object_), np.angle(object_)
    assert amplitude.min() >= 0.6 - 1e-12
    assert amplitude.max() <= 0.9 + 1e-12
    assert phase.min() >= -0.8 - 1e-12
    assert phase.max() <= 1e-12


@pytest.mark.parametrize("kind", list(ObjectKind))
@pytest.mark.parametrize("seed", range(3))
def test_objects_use_their_range_and_have_fine_structure(kind: ObjectKind, seed: int) -> None:
    """Phase contrast is a good part of the range, and features of 2 to 4 px carry a visible share of it."""
    phase = np.angle(make_object(kind, (128, 128), np.random.default_rng(seed), phase_range_rad=1.0))
    q = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    power = np.abs(np.fft.fft2(phase - phase.mean())) ** 2

    assert phase.std() > 0.1
    assert power[(q > 0.125) & (q < 0.5)].sum() / power.sum() > 0.01


@pytest.mark.parametrize("kind", list(ObjectKind))
def test_objects_follow_their_generator(kind: ObjectKind) -> None:
    """The same generator state gives the same object, another one another object."""
    one, same, other = (make_object(kind, (64, 64), np.random.default_rng(seed)) for seed in (5, 5, 6))

    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


def test_kinds_differ() -> None:
    """No two classes give the same object from the same generator."""
    objects = [make_object(kind, (64, 64), np.random.default_rng(0)) for kind in ObjectKind]

    assert all(np.abs(a - b).max() > 0.1 for a, b in itertools.combinations(objects, 2))


def test_impossible_objects_are_refused() -> None:
    """Frames below 16 px and amplitudes upside down are errors."""
    rng = np.random.default_rng(0)

    with pytest.raises(ValueError, match="16 x 16"):
        make_object(ObjectKind.CHIP, (8, 64), rng)
    with pytest.raises(ValueError, match="amplitude"):
        make_object(ObjectKind.CHIP, (64, 64), rng, amplitude_range=(0.9, 0.5))


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("kind", list(ProbeKind))
def test_probes_are_well_sampled(kind: ProbeKind, size: int) -> None:
    """Flux is as asked, and at least 99 % of it lies well inside the frame, at the sample and on the detector."""
    probe = aberrate(make_probe(kind, size, photons=3e5), np.random.default_rng(2), strength_rad=0.5)
    offset = np.arange(size) - size // 2
    inside = np.hypot(offset[:, None], offset[None, :]) < 0.45 * size

    assert probe.shape == (1, size, size)
    for field in (probe[0], far_field(probe[0])):
        intensity = np.abs(field) ** 2
        assert intensity.sum() == pytest.approx(3e5)
        assert intensity[inside].sum() > 0.99 * 3e5


@pytest.mark.parametrize("size", [64, 128])
def test_zone_plate_lights_a_ring(size: int) -> None:
    """The outer diameter is about half of the frame, the middle is dim, and so is the middle of the pupil."""
    probe = zone_plate_probe(size, photons=1.0)
    offset = np.arange(size) - size // 2
    radius = np.hypot(offset[:, None], offset[None, :])
    intensity, pupil = np.abs(probe[0]) ** 2, np.abs(far_field(probe[0])) ** 2

    assert 0.4 * size < lit_diameter_px(probe) < 0.6 * size
    ring = intensity[(radius > 0.15 * size) & (radius < 0.22 * size)].mean()
    assert intensity[radius < 0.06 * size].mean() < 0.6 * ring
    assert pupil[radius < 0.27 * 0.3 * size].sum() < 0.02


def test_gaussian_probe_has_its_width_and_curvature() -> None:
    """Intensity falls to one half at half the width, and the phase there is π·r²/λz."""
    probe = gaussian_probe(64, photons=1.0, fwhm_px=16.0, curvature_px2=400.0)[0]

    assert np.abs(probe[32, 40] / probe[32, 32]) ** 2 == pytest.approx(0.5)
    assert np.angle(probe[32, 40] / probe[32, 32]) == pytest.approx(np.pi * 64 / 400)


def test_aberrations_have_their_strength() -> None:
    """The pupil phase gains the root mean square asked for and keeps its modulus."""
    probe = make_probe(ProbeKind.ZONE_PLATE, 64, photons=1e4)

    bent = far_field(aberrate(probe, np.random.default_rng(3), strength_rad=0.25))

    before = far_field(probe)
    weight = np.abs(before) ** 2
    phase = np.angle(bent * before.conj())
    mean = np.average(phase, weights=weight)
    assert np.sqrt(np.average((phase - mean) ** 2, weights=weight)) == pytest.approx(0.25, rel=1e-6)
    np.testing.assert_allclose(np.abs(bent), np.abs(before), atol=1e-9)


@pytest.mark.parametrize("n_modes", [1, 3, 6])
def test_modes_are_orthogonal_and_share_the_photons(n_modes: int) -> None:
    """Each mode is orthogonal to the others, holds its share of power, and the first is the probe."""
    probe = make_probe(ProbeKind.APERTURE, 64, photons=1e5)

    modes = with_modes(probe, n_modes, power_ratio=0.5).reshape(n_modes, -1)

    gram = modes.conj() @ modes.T
    power = 0.5 ** np.arange(n_modes)
    np.testing.assert_allclose(gram, np.diag(1e5 * power / power.sum()), atol=1e-6)
    first = modes[0] * np.sqrt(power.sum())
    np.testing.assert_allclose(first, probe.ravel(), atol=1e-9)


def test_lit_diameter_of_a_disc() -> None:
    """A uniform disc of radius 20 holds a quarter of its light in half its diameter."""
    y, x = np.indices((64, 64)) - 30
    disc = (np.hypot(y, x) <= 20).astype(complex)[None]

    assert lit_diameter_px(disc, fraction=0.25) == pytest.approx(20, abs=1)
    assert lit_diameter_px(disc, fraction=1.0) == pytest.approx(40, abs=1)


def test_impossible_probes_are_refused() -> None:
    """Numbers out of range are errors that name them."""
    with pytest.raises(ValueError, match="size"):
        gaussian_probe(4, photons=1.0)
    with pytest.raises(ValueError, match="photons"):
        gaussian_probe(64, photons=0.0)
    with pytest.raises(ValueError, match="stop_fraction"):
        zone_plate_probe(64, photons=1.0, stop_fraction=1.0)
    with pytest.raises(ValueError, match="1 to 6 modes"):
        with_modes(make_probe(ProbeKind.GAUSSIAN, 64, photons=1.0), 7)


def test_scaling_sets_the_photons_of_all_modes() -> None:
    """The factor is one positive number for every mode."""
    probe = np.ones((2, 8, 8), dtype=np.complex64)
    probe[1] *= 3j

    scaled = scaled_to(probe, photons=640.0)

    np.testing.assert_allclose(scaled[:, 0, 0], [1, 3j])
