"""The trainable probe: energy, aberrations, mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend.physics.probe import TrainableProbe, aberration_basis, soft_disc
from ptycho_core.physics.probes import ProbeKind, make_probe, with_modes


def _start(n_modes: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.complex64]]:
    return with_modes(make_probe(ProbeKind.ZONE_PLATE, 64, photons=1e5), n_modes).astype(np.complex64)


def test_it_starts_as_the_given_probe_at_the_given_energy() -> None:
    """Untouched, it is the starting probe scaled to the energy."""
    start = _start(2)

    probe = TrainableProbe(start, 500.0)().detach().numpy()

    scale = np.sqrt(500.0 / np.sum(np.abs(start) ** 2))
    np.testing.assert_allclose(probe, start * scale, atol=1e-5 * np.abs(start * scale).max())


def test_a_focus_coefficient_is_a_defocus() -> None:
    """Moving the focus coefficient multiplies the spectrum by a quadratic phase, as NumPy does it."""
    start = _start()
    trainable = TrainableProbe(start, 1e5)
    with torch.no_grad():
        trainable.aberrations[0] = 0.8

    spectrum = np.fft.fft2(start[0].astype(np.complex128))
    frequency = np.fft.fftfreq(64)
    r2 = frequency[:, None] ** 2 + frequency[None, :] ** 2
    weight = np.abs(spectrum) ** 2 / np.sum(np.abs(spectrum) ** 2)
    # The part of r² that constant and tilts do not explain, at a root mean square of 1 rad, by weighted least squares.
    design = np.stack([np.ones_like(r2), *np.meshgrid(frequency, frequency, indexing="ij")]).reshape(3, -1).T
    root = np.sqrt(weight).reshape(-1)
    gauge, *_ = np.linalg.lstsq(design * root[:, None], r2.reshape(-1) * root, rcond=None)
    focus = r2 - (design @ gauge).reshape(64, 64)
    focus /= np.sqrt(np.sum(weight * focus**2))
    wanted = np.fft.ifft2(spectrum * np.exp(0.8j * focus))
    np.testing.assert_allclose(trainable()[0].detach().numpy(), wanted, atol=2e-5 * np.abs(wanted).max())


def test_aberrations_are_orthonormal_and_leave_the_gauge_alone() -> None:
    """Under the probe's spectrum the basis is orthonormal, without constant and tilt."""
    start = torch.tensor(_start(2))
    basis = aberration_basis(start).to(torch.float64)

    weight = torch.fft.fft2(start.to(torch.complex128)).abs().square().sum(dim=0)
    weight = weight / weight.sum()
    frequency = torch.fft.fftfreq(64, dtype=torch.float64)
    y, x = torch.meshgrid(frequency, frequency, indexing="ij")
    scale = (weight * x.square()).sum().sqrt()
    functions = torch.cat([torch.stack([torch.ones_like(x), y / scale, x / scale]), basis])
    gram = torch.einsum("iyx,jyx,yx->ij", functions, functions, weight)
    torch.testing.assert_close(gram[3:, 3:], torch.eye(6, dtype=torch.float64), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(gram[:3, 3:], torch.zeros(3, 6, dtype=torch.float64), atol=1e-5, rtol=0.0)


def test_an_even_beam_has_no_aberrations() -> None:
    """The spectrum of a constant probe is one point: the basis is zero there and the probe stays finite."""
    trainable = TrainableProbe(np.ones((1, 64, 64), np.complex64), 10.0)

    assert not trainable.basis.any()
    assert bool(trainable().isfinite().all())


def test_the_energy_stays_whatever_is_learned() -> None:
    """Pixels, aberrations and mask may do what they like."""
    trainable = TrainableProbe(_start(2), 321.0, soft_disc(64, 40.0, 2.0))
    with torch.no_grad():
        trainable.pixels.mul_(7.0).add_(0.03)
        trainable.aberrations.copy_(torch.linspace(-2, 2, 6))

    assert float(trainable().detach().abs().square().sum()) == pytest.approx(321.0, rel=1e-5)


def test_a_mask_cuts_the_probe() -> None:
    """Outside the mask there is no light."""
    mask = soft_disc(64, 20.0, 0.0)

    probe = TrainableProbe(_start(), 1.0, mask)().detach()

    assert not probe[0][mask == 0].any()
    assert probe[0][mask == 1].abs().max() > 0


def test_gradients_reach_pixels_and_aberrations() -> None:
    """Both can be learned."""
    trainable = TrainableProbe(_start(), 1e3)

    (trainable().real * torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))).sum().backward()

    for parameter in (trainable.pixels, trainable.aberrations):
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).all())


def test_a_sharp_disc_has_the_area_of_a_disc() -> None:
    """Ones inside the diameter, zeros outside."""
    disc = soft_disc(64, 30.0, 0.0)

    assert set(disc.unique().tolist()) == {0.0, 1.0}
    assert float(disc.sum()) == pytest.approx(np.pi * 15**2, rel=0.02)


def test_a_soft_disc_is_an_error_function_across_its_edge() -> None:
    """One half at the edge, 16 % one sigma outside, and 1 in the middle."""
    disc = soft_disc(65, 40.0, 3.0)
    across = disc[32, 32:].numpy()  # distance in px from the centre

    assert across[0] == pytest.approx(1.0)
    assert across[20] == pytest.approx(0.5, abs=1e-6)
    assert across[23] == pytest.approx(0.158655, abs=1e-5)
    assert (np.diff(across) <= 0).all()


def test_reduced_precision_around_it_does_not_reach_it() -> None:
    """Under autocast the probe is what it is without."""
    trainable = TrainableProbe(_start(), 1e3)
    with torch.no_grad():
        trainable.aberrations.copy_(torch.linspace(-1, 1, 6))
        plain = trainable()
        with torch.autocast("cpu", torch.bfloat16):
            cast = trainable()

    assert torch.equal(plain, cast)
