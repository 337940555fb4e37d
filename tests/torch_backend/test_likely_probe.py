"""The probe that goes down the likelihood together with the object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch

from ptycho_adapters.torch_backend import generalist_for
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.finish.finish import Wish, posterior_around
from ptycho_adapters.torch_backend.inference.likely_probe import likely_probe
from ptycho_adapters.torch_backend.inference.probe_refinement import probe_step
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory, WholeScan
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

SCAN = simulate(
    SimulationConfig(
        N=32, object_size_px=72, step_px=5, jitter_px=1, photons=1e6, object_kind="chip", probe_kind="aperture", seed=4
    )
)


def _pass(scan: Scan = SCAN) -> WholeScan:
    everything = np.arange(scan.n_patterns)
    network = generalist_for(scan).generator
    settings = (PyTorchExecutionConfig(), TorchInferenceConfig())
    return PassFactory(network, ResidentScan(scan), everything, *settings)(scan.probe, everything)


def _judging_pixels(run: WholeScan) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Pixels (n, N, N) that a finish of a pass leaves out of its fit."""
    posterior = posterior_around(run.measured(), _on_the_canvas(run), run.probe, Wish(steps="auto", refine_probe=True))
    # Patterns on the device have their zero frequency in the corner.
    left_out = torch.cat([part.left_out[0] for part in posterior.parts(8)]).numpy() > 0
    return np.fft.fftshift(left_out, axes=(1, 2))


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

    found = likely_probe(run, _on_the_canvas(run), 20)

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

    found = likely_probe(wrong, object_, 20)

    assert _gap(wrong.probe) > 0.01
    assert _gap(found) < 0.5 * _gap(stepped.probe)


@torch.no_grad()
def test_pixels_that_judge_a_finish_have_no_say() -> None:
    """Whatever they counted, the probe is the same; a count of another pixel changes it."""
    run = _pass()
    object_, judging = _on_the_canvas(run), _judging_pixels(run)
    assert 0.01 < judging.mean() < 0.03
    found = likely_probe(run, object_, 20)

    for changed, is_seen in ((judging, False), (np.roll(judging, 1, axis=2) & ~judging, True)):
        counts = SCAN.counts() + np.where(changed, 50, 0).astype(SCAN.counts().dtype)
        other = attrs.evolve(run, scan=ResidentScan(attrs.evolve(SCAN, patterns=counts)))
        assert torch.equal(likely_probe(other, object_, 20), found) is not is_seen
