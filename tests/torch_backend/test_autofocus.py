"""The focus of a probe is found before the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.inference.autofocus import focus_probe
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from torch_sample import module_of, payload_for

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    """A scan with the probe that made it."""
    return simulate(SimulationConfig(N=64, object_size_px=104, step_px=6.0, photons=1e6, seed=4))


def _out_of_focus(scan: Scan, focus: float) -> Scan:
    """The same counts with a probe whose focus is wrong by a known amount."""
    probe = TrainableProbe(scan.probe, 1.0)
    with torch.no_grad():
        probe.aberrations[0] = focus
        moved = probe().numpy()
    return attrs.evolve(scan, probe=moved)


@pytest.mark.parametrize("error", [-0.9, 0.0, 0.5])
def test_a_wrong_focus_is_found(scan: Scan, error: float) -> None:
    """The coefficient that is set undoes the one that was put in."""
    resident = ResidentScan(_out_of_focus(scan, error))
    probe = TrainableProbe(_out_of_focus(scan, error).probe, resident.flux)

    found = focus_probe(probe, resident, np.arange(scan.n_patterns), 0.01)

    assert found == pytest.approx(-error, abs=0.12)
    assert float(probe.aberrations[0].detach()) == pytest.approx(found)
    assert not bool(probe.aberrations[1:].any())


def test_bad_pixels_do_not_mislead(scan: Scan) -> None:
    """A masked block of the detector leaves the focus where it is."""
    bad = np.zeros((64, 64), bool)
    bad[20:26, 30:38] = True
    resident = ResidentScan(attrs.evolve(_out_of_focus(scan, 0.5), bad_pixels=bad))
    probe = TrainableProbe(_out_of_focus(scan, 0.5).probe, resident.flux)

    assert focus_probe(probe, resident, np.arange(scan.n_patterns), 0.01) == pytest.approx(-0.5, abs=0.15)


def test_a_training_looks_for_the_focus_if_asked(tmp_path: Path) -> None:
    """The module starts in focus; without the search, or with a fixed probe, it starts from the probe as given."""
    moved = {
        name: module_of(payload_for(tmp_path / name, overrides)).probes[0].aberrations.detach().clone()
        for name, overrides in {
            "on": {},
            "off": {"probe_autofocus": False},
            "fixed": {"probe_trainable": False},
        }.items()
    }

    assert float(moved["on"][0]) != 0.0
    assert not bool(moved["off"].any())
    assert not bool(moved["fixed"].any())
