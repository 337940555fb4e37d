"""The differentiable forward model against the float64 reference, SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.physics.data_consistency import asked_change
from ptycho_adapters.torch_backend.physics.optics import (
    amplitude_mae,
    back_project,
    detector_order,
    expected_counts,
    half_deviance,
    light_of,
    poisson_deviance,
    shift_probe,
    split_positions,
)
from ptycho_core.physics import optics as reference
from ptycho_core.physics.probes import ProbeKind, make_probe, with_modes
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.simulate import SimulationConfig, simulate


def _noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("n_modes", [1, 3])
@pytest.mark.parametrize("size", [64, 128])
def test_a_scan_has_the_counts_of_the_reference(size: int, n_modes: int) -> None:
    """At sub-pixel positions, with modes and background, float32 counts agree with float64 to 1e-5."""
    config = SimulationConfig(N=size, object_size_px=size + 33, step_px=11.3, jitter_px=1.0, n_modes=n_modes)
    scan = simulate(config)
    assert scan.object is not None
    wanted = scan_counts(scan.object, scan.probe, scan.positions_px, background=0.7)

    starts, fractions = split_positions(torch.tensor(scan.positions_px), size)
    patches = torch.stack([torch.tensor(scan.object)[y : y + size, x : x + size] for y, x in starts.tolist()])
    counts = expected_counts(patches, shift_probe(torch.tensor(scan.probe), fractions), 0.7)

    centred = torch.fft.fftshift(counts, dim=(-2, -1)).numpy().astype(np.float64)
    error = np.linalg.norm(centred - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
    assert counts.dtype == torch.float32
    assert error.max() < 1e-5
    assert np.abs(centred - wanted).max() < 1e-5 * wanted.max()


def test_whole_pixel_counts_are_the_reference_counts() -> None:
    """One patch under one probe, in detector order, is the centred reference rolled by half a frame."""
    patch, probe = _noise(16, 16), _noise(2, 16, 16, seed=1)

    counts = expected_counts(patch, probe, 0.25)

    wanted = reference.expected_counts(patch.numpy(), probe.numpy(), background=0.25)
    np.testing.assert_allclose(counts.numpy(), np.fft.ifftshift(wanted), rtol=2e-4, atol=1e-4)


def test_detector_order_puts_the_centre_first() -> None:
    """The pixel at N // 2 moves to index 0, for even and odd sizes."""
    for size in (6, 7):
        pattern = torch.zeros(size, size)
        pattern[size // 2, size // 2] = 1.0

        assert detector_order(pattern)[0, 0] == 1.0


def test_energy_is_kept() -> None:
    """All photons that leave the sample arrive: Parseval."""
    patches, probe = _noise(3, 16, 16), _noise(2, 16, 16, seed=1)

    arrived = expected_counts(patches, probe, 0.0).sum(dim=(-2, -1))

    left = (patches[:, None] * probe).abs().square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(arrived, left, rtol=1e-5, atol=0.0)


def test_modes_add_in_intensity() -> None:
    """Two modes give the sum of what each gives alone, not the square of the summed wave."""
    patch, probe = _noise(16, 16), _noise(2, 16, 16, seed=1)

    both = expected_counts(patch, probe, 0.0)

    alone = sum((expected_counts(patch, probe[i : i + 1], 0.0) for i in (0, 1)), torch.zeros(16, 16))
    torch.testing.assert_close(both, alone)
    assert not torch.allclose(both, expected_counts(patch, probe.sum(dim=0, keepdim=True), 0.0), rtol=0.1)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.5), (-0.49, 0.31)])
def test_probe_moves_like_scipy_moves_it(shift: tuple[float, float]) -> None:
    """The Fourier shift agrees with scipy.ndimage.fourier_shift, sign and axis order included."""
    probe = with_modes(make_probe(ProbeKind.ZONE_PLATE, 32, photons=1e4), 2)

    moved = shift_probe(torch.tensor(probe.astype(np.complex64)), torch.tensor(shift))

    wanted = [np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(mode), shift)) for mode in probe]
    np.testing.assert_allclose(moved.numpy(), wanted, atol=2e-6 * np.abs(probe).max())


def test_positions_split_into_starts_and_remainders() -> None:
    """Start pixel plus half a patch plus remainder is the position, and a remainder of a half goes down."""
    positions = torch.tensor([[10.5, 3.0], [10.25, 3.75], [11.0, 4.49]], dtype=torch.float64)

    starts, fractions = split_positions(positions, 8)

    assert starts.tolist() == [[7, 0], [7, 0], [8, 1]]
    assert fractions.tolist() == [[0.0, -0.5], [-0.25, 0.25], [-0.5, pytest.approx(-0.01, abs=1e-7)]]


def test_deviance_is_the_loss_of_log_likelihood() -> None:
    """It is what Poisson's law loses against a perfect fit, per pixel, zeros included."""
    rng = np.random.default_rng(3)
    rate = rng.uniform(0.01, 30.0, (5, 8, 8))
    counts = rng.poisson(rate).astype(np.float64)

    deviance = poisson_deviance(torch.tensor(rate), torch.tensor(counts))

    law = scipy.stats.poisson
    wanted = np.mean(law.logpmf(counts, np.maximum(counts, 1e-300)) - law.logpmf(counts, rate))
    assert float(deviance) == pytest.approx(wanted, rel=1e-9)
    assert float(deviance) == pytest.approx(reference.poisson_deviance(rate, counts), rel=1e-12)


@pytest.mark.parametrize("level", [0.02, 3.0, 1e3, 1e6, 1e8])
def test_deviance_in_float32_agrees_with_float64(level: float) -> None:
    """From dim to very bright pixels, single precision keeps five digits of the mean."""
    rng = np.random.default_rng(4)
    rate = rng.uniform(0.5 * level, level, (64, 64)).astype(np.float32)
    counts = rng.poisson(rate).astype(np.float32)

    deviance = poisson_deviance(torch.tensor(rate), torch.tensor(counts))

    assert float(deviance) == pytest.approx(reference.poisson_deviance(rate, counts), rel=2e-5)


def test_deviance_in_float32_holds_where_rates_are_far_off() -> None:
    """Rates from a hundredth to a million times what is counted cost what they do in float64, to parts of the rate."""
    rate, counts = (each.astype(np.float32) for each in np.meshgrid(np.logspace(-2, 7, 91), [0.0, 1.0, 10.0, 1e4]))

    deviance = half_deviance(torch.tensor(rate), torch.tensor(counts)).numpy()

    exact = rate.astype(np.float64) - counts + scipy.special.xlogy(counts, counts.astype(np.float64) / rate)
    assert (np.abs(deviance - exact) <= 1e-6 * (rate + counts) + 1e-6 * np.abs(exact)).all()


def test_a_dark_pixel_under_a_bright_rate_stays_finite() -> None:
    """No count where many were expected costs the rate, with gradient 1."""
    rate = torch.tensor([[1e12]], requires_grad=True)

    deviance = poisson_deviance(rate, torch.zeros(1, 1))
    deviance.backward()

    assert float(deviance.detach()) == pytest.approx(1e12)
    assert rate.grad is not None
    assert float(rate.grad) == 1.0


def test_bad_pixels_do_not_count() -> None:
    """Both costs are means over good pixels alone."""
    rng = np.random.default_rng(5)
    rate, counts = rng.uniform(1, 9, (3, 8, 8)), rng.poisson(5.0, (3, 8, 8)).astype(float)
    bad = rng.random((8, 8)) < 0.4
    good = torch.tensor(~bad, dtype=torch.float64)

    pairs = (poisson_deviance, reference.poisson_deviance), (amplitude_mae, reference.amplitude_mae)
    for cost, wanted in pairs:
        found = cost(torch.tensor(rate), torch.tensor(counts), good)
        assert float(found) == pytest.approx(wanted(rate, counts, bad_pixels=bad), rel=1e-12)


@pytest.mark.parametrize("cost", [poisson_deviance, amplitude_mae])
def test_gradients_agree_with_finite_differences(cost: object) -> None:
    """From patches and probe through modes, far field and cost, in float64, dark pixels included."""
    assert callable(cost)
    counts = torch.poisson(
        torch.full((2, 4, 4), 2.0, dtype=torch.float64), generator=torch.Generator().manual_seed(1)
    ) * (torch.arange(16, dtype=torch.float64).reshape(4, 4) % 3 > 0)

    def total(patches: Tensor, probe: Tensor) -> Tensor:
        found: Tensor = cost(expected_counts(patches, probe, 0.05), counts)
        return found

    patches = _noise(2, 4, 4, dtype=torch.complex128).requires_grad_()
    probe = _noise(3, 4, 4, seed=2, dtype=torch.complex128).requires_grad_()
    assert bool((counts == 0).any())
    assert torch.autograd.gradcheck(total, (patches, probe))


def test_gradients_are_finite_in_the_dark() -> None:
    """No counts, no object, no light: the gradient is still a number."""
    patches = torch.zeros(1, 8, 8, dtype=torch.complex64, requires_grad=True)
    for cost in (poisson_deviance, amplitude_mae):
        cost(expected_counts(patches, torch.zeros(1, 8, 8), 0.01), torch.zeros(1, 8, 8)).backward()

    assert patches.grad is not None
    assert bool(patches.grad.isfinite().all())


def test_a_transparent_object_projects_back_to_one() -> None:
    """The bare far field gives |P|² / (|P|² + floor): 1 where the probe is bright, 0 where it is dark."""
    probe = torch.tensor(make_probe(ProbeKind.ZONE_PLATE, 64, photons=1e6).astype(np.complex64))
    amplitude = torch.fft.fft2(probe[0], norm="ortho").abs()

    patch = back_project(amplitude, probe, regularization=0.01)

    light = probe[0].abs().square()
    wanted = light / (light + 0.01 * light.max())
    torch.testing.assert_close(patch, wanted.to(torch.complex64), rtol=0.0, atol=1e-4)
    assert float(patch.real[light > 0.5 * light.max()].min()) > 0.97


def test_data_that_are_met_ask_for_no_change() -> None:
    """Where the patches explain bright patterns already, in several modes, nothing is asked for."""
    patch, probe = _noise(16, 16), 1e4 * _noise(2, 16, 16, seed=1)
    amplitude = expected_counts(patch, probe, 0.0).sqrt()

    change = asked_change(amplitude, probe, patch)

    light = light_of(probe)
    torch.testing.assert_close(change / light.mean(), torch.zeros_like(change), rtol=0.0, atol=1e-5)


def test_the_change_asked_for_meets_the_data() -> None:
    """Under one mode that shines everywhere, the patches plus the change over the light give the measured amplitude."""
    patch = _noise(16, 16)
    phase = _noise(1, 16, 16).real
    probe = 1e3 * torch.polar(1.0 + torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1)), phase)
    amplitude = 1e3 * (0.05 + torch.rand(16, 16, generator=torch.Generator().manual_seed(2)))

    corrected = patch + asked_change(amplitude, probe, patch) / light_of(probe)

    torch.testing.assert_close(expected_counts(corrected, probe, 0.0).sqrt(), amplitude, rtol=1e-3, atol=1e-2)


def test_bad_pixels_ask_for_nothing() -> None:
    """Whatever is read at a bad pixel, the change is the one of a pixel that agrees already."""
    patch, probe = _noise(16, 16), 1e3 * _noise(1, 16, 16, seed=1)
    agreed = expected_counts(patch, probe, 0.0).sqrt()
    good = torch.ones(16, 16)
    good[3, 5:9] = 0

    wrong = torch.where(good > 0, agreed, 7.0 * agreed)

    light = light_of(probe).mean()
    torch.testing.assert_close(
        asked_change(wrong, probe, patch, good) / light, torch.zeros_like(patch), rtol=0.0, atol=1e-4
    )
    assert float((asked_change(wrong, probe, patch) / light).abs().max()) > 1e-2


def test_the_change_is_the_steepest_descent_of_the_amplitude_misfit() -> None:
    """Half the gradient of the summed squared difference of amplitudes, with the sign turned."""
    patch, probe = _noise(8, 8).to(torch.complex128), 1e3 * _noise(2, 8, 8, seed=1).to(torch.complex128)
    amplitude = 1e3 * torch.rand(8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    free = patch.clone().requires_grad_(True)

    (expected_counts(free, probe, 0.0).sqrt() - amplitude).square().sum().backward()

    assert free.grad is not None
    torch.testing.assert_close(asked_change(amplitude, probe, patch), -0.5 * free.grad, rtol=1e-4, atol=1.0)


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3, 1.0, 10.0])
def test_photon_noise_asks_for_nothing_on_average(rate: float) -> None:
    """A pixel that expects a tenth of a photon is not pulled to darkness by the many looks that find none."""
    counts = torch.poisson(torch.full((40_000, 1, 1), rate), generator=torch.Generator().manual_seed(0))
    probe, patch = torch.full((1, 1, 1), rate**0.5, dtype=torch.complex64), torch.ones(1, 1, dtype=torch.complex64)

    change = asked_change(counts.sqrt(), probe, patch) / rate

    # The bare roots of counts, over the root of the rate, would give -0.83, -0.69, -0.50, -0.23 and -0.01.
    assert abs(float(change.real.mean())) < 0.1


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_through_the_change_is_exact(modes: int, masked: bool) -> None:
    """The way back that is written out agrees with finite differences, in several modes and beside bad pixels."""
    patch, probe = _noise(2, 6, 6).to(torch.complex128), 5 * _noise(2, modes, 6, 6, seed=1).to(torch.complex128)
    amplitude = 5 * torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    good = (torch.rand(6, 6, generator=torch.Generator().manual_seed(3)) > 0.2).double() if masked else None

    free = patch.requires_grad_(True)

    assert torch.autograd.gradcheck(lambda one: asked_change(amplitude, probe, one, good), (free,))


def test_a_gradient_that_is_not_there_is_refused() -> None:
    """Neither the probe nor the amplitude gets a silent zero."""
    patch, probe, amplitude = _noise(4, 4), _noise(1, 4, 4, seed=1), torch.ones(4, 4)

    for wanted in (probe.clone().requires_grad_(True), probe):
        free = amplitude.clone().requires_grad_(wanted is probe)
        with pytest.raises(ValueError, match="no gradient with respect to amplitude or probes"):
            asked_change(free, wanted, patch)


def test_a_phase_of_the_whole_object_cannot_be_seen() -> None:
    """Multiplying the object by exp(iφ) leaves the counts as they are."""
    patch, probe = _noise(16, 16), _noise(1, 16, 16, seed=1)
    phase = torch.polar(torch.ones(()), torch.tensor(1.234))

    torch.testing.assert_close(expected_counts(patch * phase, probe, 0.1), expected_counts(patch, probe, 0.1))
