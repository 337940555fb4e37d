"""The probe that goes down the likelihood together with the object."""

from __future__ import annotations

import attrs
import numpy as np
import torch

from ptycho_adapters.torch_backend import generalist_for
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.inference.likely_probe import likely_probe
from ptycho_adapters.torch_backend.inference.probe_refinement import probe_step
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory, WholeScan
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.simulation.simulate import SimulationConfig, simulate

SCAN = simulate(
    SimulationConfig(
        N=32, object_size_px=72, step_px=5, jitter_px=1, photons=1e6, object_kind="chip", probe_kind="aperture", seed=4
    )
)


def _pass() -> WholeScan:
    everything = np.arange(SCAN.n_patterns)
    network = generalist_for(SCAN).generator
    settings = (PyTorchExecutionConfig(), TorchInferenceConfig())
    return PassFactory(network, ResidentScan(SCAN), everything, *settings)(SCAN.probe, everything)


def _on_the_canvas(run: WholeScan) -> torch.Tensor:
    """The true object as a pass would have it."""
    assert SCAN.object is not None
    top, left = run.origin.tolist()
    return torch.tensor(SCAN.object[top : top + run.canvas.height, left : left + run.canvas.width]).reshape(-1)


def _gap(probe: torch.Tensor) -> float:
    """Share of the light that is not in the true probe, a constant phase aside."""
    truth = torch.tensor(SCAN.probe)
    overlap = (truth.conj() * probe).sum().abs() / (truth.norm() * probe.norm())
    return float(1.0 - overlap.square())


@torch.no_grad()
def test_the_truth_stays() -> None:
    """From the true object and probe shot noise alone leads away, and the energy is what it was."""
    run = _pass()

    found = likely_probe(run, _on_the_canvas(run))

    assert _gap(found) < 1e-4
    np.testing.assert_allclose(float(found.norm()), float(run.probe.norm()), rtol=1e-5)


@torch.no_grad()
def test_a_wrong_probe_comes_closer_than_by_steps_under_a_held_object() -> None:
    """Out of focus, the descent gets to less than half of the gap that three steps under one object leave."""
    run = _pass()
    y, x = np.meshgrid(*(2 * [np.fft.fftfreq(SCAN.N)]), indexing="ij")
    spectrum = np.fft.fft2(SCAN.probe) * np.exp(20j * (x * x + y * y))
    wrong = attrs.evolve(run, probe=torch.tensor(np.fft.ifft2(spectrum).astype(np.complex64)))
    object_ = wrong.stitch()[0]
    stepped = wrong
    for _ in range(3):
        stepped = attrs.evolve(stepped, probe=probe_step(stepped, object_))

    found = likely_probe(wrong, object_)

    assert _gap(wrong.probe) > 0.01
    assert _gap(found) < 0.5 * _gap(stepped.probe)
