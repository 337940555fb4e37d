"""Laws of the trainable probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.torch_backend.physics.probe import TrainableProbe, aberration_basis, soft_disc
from strategies_physics import seeds
from strategies_torch import noise

if TYPE_CHECKING:
    import numpy as np

sizes = st.sampled_from([8, 13, 16])
energies = st.floats(1e-2, 1e10)


def _start(seed: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.complex64]]:
    start: np.ndarray[tuple[int, ...], np.dtype[np.complex64]] = noise(
        seed, 2, size, size, dtype=torch.complex64
    ).numpy()
    return start


@given(seeds, sizes, energies, st.booleans())
def test_the_energy_is_held(seed: int, size: int, energy: float, masked: bool) -> None:
    """Whatever the parameters, the summed intensity is the given energy."""
    trainable = TrainableProbe(_start(seed, size), energy, soft_disc(size, size / 2, 1.0) if masked else None)
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter.copy_(noise(seed + 1, *parameter.shape, dtype=torch.float32))

    assert float(trainable().detach().abs().square().sum(dtype=torch.float64)) == pytest.approx(energy, rel=1e-4)


@given(seeds, sizes)
def test_aberrations_change_phases_alone(seed: int, size: int) -> None:
    """They leave the angular spectrum's intensity as it was, for every mode."""
    trainable = TrainableProbe(_start(seed, size), 1.0)
    with torch.no_grad():
        before = torch.fft.fft2(trainable()).abs()
        trainable.aberrations.copy_(noise(seed + 1, 6, dtype=torch.float32))
        after = torch.fft.fft2(trainable()).abs()

    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * float(before.max()))


@given(seeds, sizes)
def test_the_basis_is_orthonormal(seed: int, size: int) -> None:
    """Under the spectrum of any probe, and orthogonal to a constant."""
    start = torch.tensor(_start(seed, size))
    basis = aberration_basis(start).to(torch.float64)

    weight = torch.fft.fft2(start.to(torch.complex128)).abs().square().sum(dim=0)
    weight = weight / weight.sum()
    gram = torch.einsum("iyx,jyx,yx->ij", basis, basis, weight)
    torch.testing.assert_close(gram, torch.eye(6, dtype=torch.float64), atol=1e-4, rtol=0.0)
    assert float((basis * weight).sum(dim=(1, 2)).abs().max()) < 1e-5


@given(st.integers(2, 40), st.floats(0.5, 60), st.floats(0, 8))
def test_a_disc_is_even_and_bounded(size: int, diameter: float, sigma: float) -> None:
    """Between 0 and 1, symmetric, not rising outwards."""
    disc = soft_disc(size, diameter, sigma)

    assert torch.equal(disc, disc.flip(0))
    assert torch.equal(disc, disc.T)
    assert float(disc.min()) >= 0.0
    assert float(disc.max()) <= 1.0
    outwards = disc[size // 2, size // 2 :]
    assert bool((outwards.diff() <= 1e-6).all())
