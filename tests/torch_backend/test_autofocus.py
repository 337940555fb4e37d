"""The focus of a probe is found before the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend import generalist_for
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.inference.autofocus import look_for_focus, refocused
from ptycho_adapters.torch_backend.inference.preparation import prepare
from ptycho_adapters.torch_backend.inference.reconstruct import first_pass, preparation_for
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from torch_sample import module_of, payload_for, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

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
    """The change undoes what was put in; the probe itself stays as it is."""
    resident = ResidentScan(_out_of_focus(scan, error))
    probe = TrainableProbe(_out_of_focus(scan, error).probe, resident.flux)

    found = look_for_focus(probe, resident, np.arange(scan.n_patterns), 0.0)

    assert found == pytest.approx(-error, abs=0.12)
    assert not bool(probe.aberrations.any())


def test_bad_pixels_do_not_mislead(scan: Scan) -> None:
    """A masked block of the detector leaves the focus where it is."""
    bad = np.zeros((64, 64), bool)
    bad[20:26, 30:38] = True
    resident = ResidentScan(attrs.evolve(_out_of_focus(scan, 0.5), bad_pixels=bad))
    probe = TrainableProbe(_out_of_focus(scan, 0.5).probe, resident.flux)

    assert look_for_focus(probe, resident, np.arange(scan.n_patterns), 0.0) == pytest.approx(-0.5, abs=0.15)


def test_the_end_of_the_range_is_no_minimum(scan: Scan) -> None:
    """A focus that is off by more than is looked for is left alone, not moved to the end of the range."""
    resident = ResidentScan(_out_of_focus(scan, 3.0))
    probe = TrainableProbe(_out_of_focus(scan, 3.0).probe, resident.flux)

    assert abs(look_for_focus(probe, resident, np.arange(scan.n_patterns), 0.0)) < 1.9


def test_a_dip_within_its_scatter_is_none(scan: Scan) -> None:
    """Two patterns that say nothing about each other do not move the focus."""
    lonely = attrs.evolve(scan, positions_px=scan.positions_px * 40.0)
    resident = ResidentScan(lonely)
    probe = TrainableProbe(lonely.probe, resident.flux)

    assert look_for_focus(probe, resident, np.array([0, 5]), 0.0) == 0.0


def test_refocused_is_the_probe_with_another_coefficient(scan: Scan) -> None:
    """Moving the focus there and back gives the probe that there was."""
    there = _out_of_focus(scan, 0.4)
    probe = TrainableProbe(there.probe, float(np.square(np.abs(scan.probe)).sum()))

    back = refocused(probe, -0.4).numpy()

    np.testing.assert_allclose(back, scan.probe, atol=2e-2 * np.abs(scan.probe).max())


def test_a_training_looks_for_the_focus_if_asked(tmp_path: Path) -> None:
    """The module starts in focus; without the search, or with a fixed probe, it starts from the probe as given."""
    given = tiny_scan().probe
    blurred = _out_of_focus(tiny_scan(), 0.6)
    probes = {
        name: module_of(payload_for(tmp_path / name, overrides), blurred).probes[0]().detach().numpy()
        for name, overrides in {
            "on": {"probe_autofocus": True},
            "off": {"probe_autofocus": False},
            "fixed": {"probe_autofocus": True, "probe_trainable": False},
        }.items()
    }

    assert _overlap(probes["on"], given) > _overlap(probes["off"], given) + 0.01
    assert _overlap(probes["off"], blurred.probe) == pytest.approx(1.0, abs=1e-5)
    assert _overlap(probes["fixed"], blurred.probe) == pytest.approx(1.0, abs=1e-5)


def _overlap(one: NDArray[np.complex64], other: NDArray[np.complex64]) -> float:
    """1 if two probes are the same up to a factor."""
    return float(np.abs(np.vdot(one[0], other[0])) / (np.linalg.norm(one[0]) * np.linalg.norm(other[0])))


@pytest.mark.parametrize(("error", "moved"), [(0.2, False), (0.4, True)])
def test_a_shallow_dip_is_left_to_the_rounds(error: float, moved: bool) -> None:
    """What lowers R by a few thousandths of it need not be the focus, and moves a start that may be right."""
    faint = simulate(SimulationConfig(object_size_px=136, step_px=7, jitter_px=2, photons=1e4, seed=5))
    probe = TrainableProbe(faint.probe, float(np.square(np.abs(faint.probe)).sum()))
    given = attrs.evolve(faint, probe=refocused(probe, error).detach().numpy())
    settings = TorchInferenceConfig(probe_rounds=1, position_refinement="none")
    model, every = generalist_for(given), np.arange(given.n_patterns)

    with torch.inference_mode():
        run, _ = first_pass(model, given, every, PyTorchExecutionConfig(accelerator="cpu"), settings)
        found = prepare(run, preparation_for(model, settings)).focus_rad

    assert (found != 0.0) is moved
    if moved:
        assert found == pytest.approx(-error, abs=0.1)
