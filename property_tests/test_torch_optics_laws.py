"""Laws of the differentiable forward model, and its agreement with the reference in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.torch_backend.physics.data_consistency import asked_change
from ptycho_adapters.torch_backend.physics.optics import (
    amplitude_mae,
    detector_order,
    expected_counts,
    poisson_deviance,
    shift_probe,
    split_positions,
)
from ptycho_core.physics import optics as reference
from ptycho_core.physics import subpixel
from strategies_physics import seeds
from strategies_torch import noise

sizes = st.integers(1, 12)
n_modes = st.integers(1, 3)
shifts = st.tuples(st.floats(-3, 3), st.floats(-3, 3))
even_sizes = st.integers(1, 6).map(lambda half: 2 * half)


@given(seeds, sizes, n_modes, st.floats(0, 10))
def test_counts_agree_with_the_reference(seed: int, size: int, modes: int, background: float) -> None:
    """In float32 and detector order, to 1e-5 of the frame's norm."""
    patches = noise(seed, 2, size, size, dtype=torch.complex64)
    probe = noise(seed + 1, modes, size, size, dtype=torch.complex64)

    counts = expected_counts(patches, probe, background).numpy().astype(np.float64)

    wanted = reference.expected_counts(patches.numpy(), probe.numpy(), background=background)
    assert np.linalg.norm(counts - np.fft.ifftshift(wanted, axes=(-2, -1))) <= 1e-5 * np.linalg.norm(wanted)


@given(seeds, sizes, n_modes)
def test_no_photon_is_lost(seed: int, size: int, modes: int) -> None:
    """Parseval: counts sum to the energy of the exit waves."""
    patches, probe = noise(seed, size, size), noise(seed + 1, modes, size, size)

    torch.testing.assert_close(expected_counts(patches, probe, 0.0).sum(), (patches * probe).abs().square().sum())


@given(seeds, sizes, st.floats(0, 7), st.floats(0.01, 100))
def test_phase_is_not_seen_and_amplitude_counts_squared(seed: int, size: int, phase: float, factor: float) -> None:
    """A global phase changes nothing; an amplitude k makes k² the counts."""
    patches, probe = noise(seed, size, size), noise(seed + 1, 2, size, size)
    turned = patches * torch.polar(torch.tensor(factor, dtype=torch.float64), torch.tensor(phase, dtype=torch.float64))

    counts = expected_counts(turned, probe, 0.0)

    torch.testing.assert_close(counts, factor**2 * expected_counts(patches, probe, 0.0))


@given(seeds, sizes, st.integers(0, 11), st.integers(0, 11))
def test_moving_everything_is_not_seen(seed: int, size: int, down: int, right: int) -> None:
    """Patch and probe rolled together give the same counts."""
    patches, probe = noise(seed, size, size), noise(seed + 1, 2, size, size)
    rolled = [tensor.roll((down, right), dims=(-2, -1)) for tensor in (patches, probe)]

    torch.testing.assert_close(expected_counts(rolled[0], rolled[1], 0.1), expected_counts(patches, probe, 0.1))


@given(seeds, st.lists(st.floats(1e-3, 1e7), min_size=4, max_size=4))
def test_the_deviance_is_least_at_a_perfect_fit(seed: int, rates: list[float]) -> None:
    """It is never negative, zero where rate and count agree, and agrees with the reference."""
    rate = torch.tensor(rates, dtype=torch.float64).reshape(2, 2)
    counts = torch.poisson(rate, generator=torch.Generator().manual_seed(seed))

    deviance = float(poisson_deviance(rate, counts))

    assert deviance >= -1e-9
    assert deviance == pytest.approx(reference.poisson_deviance(rate.numpy(), counts.numpy()), rel=1e-6, abs=1e-9)
    assert float(poisson_deviance(rate, rate)) == 0.0


@given(seeds, st.floats(0.5, 1e6))
def test_costs_in_float32_are_those_in_float64(seed: int, level: float) -> None:
    """To four digits and better, from single photons to bright pixels, gradients included."""
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.01 * level, level, (16, 16)).astype(np.float32)
    counts = rng.poisson(rate).astype(np.float32)
    expected = torch.tensor(rate, requires_grad=True)

    deviance = poisson_deviance(expected, torch.tensor(counts))
    deviance.backward()

    assert float(deviance.detach()) == pytest.approx(reference.poisson_deviance(rate, counts), rel=2e-4)
    found = float(amplitude_mae(torch.tensor(rate), torch.tensor(counts)))
    assert found == pytest.approx(reference.amplitude_mae(rate, counts), rel=2e-4)
    assert expected.grad is not None
    slope = (1 - counts.astype(np.float64) / rate) / rate.size
    np.testing.assert_allclose(expected.grad.numpy(), slope, atol=1e-6 / rate.size)


@given(seeds, st.integers(2, 16), shifts)
def test_the_probe_moves_as_in_the_reference(seed: int, size: int, shift: tuple[float, float]) -> None:
    """Float32 agrees with float64, and energy is kept."""
    probe = noise(seed, 2, size, size, dtype=torch.complex64)

    moved = shift_probe(probe, torch.tensor(shift))

    wanted = subpixel.shift_probe(probe.numpy(), np.array(shift))
    np.testing.assert_allclose(moved.numpy(), wanted, atol=1e-5 * float(probe.abs().max()))
    torch.testing.assert_close(moved.abs().square().sum(), probe.abs().square().sum(), rtol=1e-4, atol=0.0)


@given(st.integers(1, 256), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_positions_split_as_in_the_reference(size: int, y: float, x: float) -> None:
    """Starts are the reference's, the rest lies in [-0.5, 0.5), and together they are the position."""
    starts, fractions = split_positions(torch.tensor([[y, x]], dtype=torch.float64), size)

    whole, rest = subpixel.split_positions(np.array([[y, x]]), size)
    np.testing.assert_array_equal(starts.numpy() + (size - 1) / 2, whole)
    np.testing.assert_allclose(fractions.numpy(), rest, atol=1e-6)
    assert bool(((fractions >= -0.5) & (fractions <= 0.5)).all())


@given(seeds, sizes)
def test_detector_order_is_undone_by_centring(seed: int, size: int) -> None:
    """For even and odd sizes."""
    patterns = noise(seed, 3, size, size, dtype=torch.float64)

    assert torch.equal(torch.fft.fftshift(detector_order(patterns), dim=(-2, -1)), patterns)


@given(seeds, even_sizes, n_modes)
def test_met_data_ask_for_no_change(seed: int, size: int, modes: int) -> None:
    """Patches that explain a bright pattern are asked for no change, over several orders of the light on them."""
    patches, probe = noise(seed, size, size), 1e6 * noise(seed + 1, modes, size, size)
    amplitude = expected_counts(patches, probe, 0.0).sqrt()

    change = asked_change(amplitude, probe, patches)

    torch.testing.assert_close(change * 1e-12, torch.zeros_like(change), rtol=0.0, atol=1e-6)
