"""Modes of a blur against the blur itself, worked out on the patterns in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import fourier_gaussian

from ptycho_adapters.torch_backend.inference.blur import blurred
from ptycho_core.physics.probes import ProbeKind, make_probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Waves = NDArray[np.complexfloating]

KINDS = (ProbeKind.ZONE_PLATE, ProbeKind.APERTURE)


@given(width_px=st.floats(0.3, 0.9), size=st.sampled_from([32, 48]), kind=st.sampled_from(KINDS))
def test_the_modes_give_blurred_patterns(width_px: float, size: int, kind: ProbeKind) -> None:
    """All modes together have the pattern of a sharp beam, blurred on the detector, behind any object."""
    probe = make_probe(kind, size, photons=1e4)
    rng = np.random.default_rng(size)
    object_ = np.exp(rng.normal(-0.2, 0.1, (size, size)) + 1j * rng.normal(0.0, 0.3, (size, size)))

    modes = blurred(torch.tensor(probe.astype(np.complex64)), width_px, 9).numpy()

    sharp, found = (_pattern(each, object_) for each in (probe, modes))
    expected = np.fft.ifft2(fourier_gaussian(np.fft.fft2(sharp), width_px)).real
    left = np.linalg.norm(found - expected)
    assert left < 0.1 * np.linalg.norm(sharp - expected) + 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("modes", [2, 3, 6])
def test_few_modes_are_the_strongest_and_hold_all_the_light(modes: int) -> None:
    """They are orthogonal, and their energy is the probe's."""
    probe = torch.tensor(make_probe(ProbeKind.ZONE_PLATE, 32, photons=1e4).astype(np.complex64))

    found = blurred(probe, 0.8, modes)

    assert found.shape == (modes, 32, 32)
    gram = (found.flatten(1) @ found.flatten(1).conj().T).abs()
    power = gram.diagonal()
    assert float(power.sum()) == pytest.approx(float(probe.abs().square().sum()), rel=1e-4)
    assert (power[:-1] >= power[1:] * (1 - 1e-4)).all()
    torch.testing.assert_close(gram - torch.diag(power), torch.zeros_like(gram), atol=1e-3 * float(power[0]), rtol=0)


@pytest.mark.parametrize(("width_px", "modes"), [(0.2, 3), (1.2, 6)])
def test_as_many_modes_as_hold_nearly_all_of_the_light(width_px: float, modes: int) -> None:
    """Where nobody says how many: a few for a slight blur, more for a wide one."""
    probe = torch.tensor(make_probe(ProbeKind.ZONE_PLATE, 48, photons=1e4)[:1].astype(np.complex64))

    assert len(blurred(probe, width_px, None)) == modes


def _pattern(modes: Waves, object_: Waves) -> NDArray[np.float64]:
    pattern: NDArray[np.float64] = (np.abs(np.fft.fft2(modes * object_)) ** 2).sum(axis=0)
    return pattern
