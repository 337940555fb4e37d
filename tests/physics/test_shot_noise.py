"""The floor of a fit under shot noise, against draws and limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend.physics.shot_noise import expected_misfit
from ptycho_core.physics.optics import poisson_deviance
from ptycho_core.physics.shot_noise import shot_noise_table


@pytest.mark.parametrize("rate", [0.03, 0.7, 4.0, 60.0])
def test_the_expectations_are_those_of_draws(rate: float) -> None:
    """Two hundred thousand draws come as near as their own scatter lets them."""
    counts = np.random.default_rng(1).poisson(rate, 200_000).astype(np.float64)
    deviance, gap = (float(each) for each in expected_misfit(torch.tensor(rate, dtype=torch.float64)))

    assert deviance == pytest.approx(poisson_deviance(np.full(counts.shape, rate), counts), rel=0.02)
    assert gap == pytest.approx(np.abs(np.sqrt(counts) - np.sqrt(rate)).mean(), rel=0.01)


def test_bright_pixels_have_the_normal_limit() -> None:
    """Half a deviance and 1/sqrt(2 pi) of amplitude per pixel, however bright."""
    deviance, gap = expected_misfit(torch.tensor([500.0, 1e7], dtype=torch.float64))

    assert deviance.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
    assert gap.tolist() == pytest.approx([1 / np.sqrt(2 * np.pi)] * 2, abs=1e-3)


def test_dark_pixels_leave_next_to_nothing() -> None:
    """Below the table the floor stays at its lowest entry."""
    table = shot_noise_table()
    deviance, gap = expected_misfit(torch.tensor(1e-9, dtype=torch.float64))

    assert float(deviance) == pytest.approx(table.deviance[0])
    assert float(gap) == pytest.approx(table.gap[0])
    assert float(deviance) < 2e-3
