"""The network in the box: it reconstructs what it has never seen, and trainings start from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from safetensors import safe_open

from ptycho_adapters.common.shipped import knows_faults
from ptycho_adapters.shipped_weights import weights_path
from ptycho_adapters.torch_backend import reconstruct, train
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.generalist import generalist_for, pretrained_generator
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
from ptycho_adapters.torch_backend.training.starting_point import starting_network
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError
from ptycho_core.results.metrics import compare, evaluation_mask
from ptycho_core.simulation.objects import ObjectKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from torch_sample import module_of, payload_for, tiny_scan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

DEFAULT_NETWORK: Mapping[str, object] = {"architecture": "unrolled", "n_filters_scale": 2, "unrolled_steps": 6}


@pytest.fixture(scope="module")
def chip() -> Scan:
    """Wires and pads under a ring-shaped beam."""
    return simulate(
        SimulationConfig(object_kind=ObjectKind.CHIP, object_size_px=100, step_px=6.0, photons=1e6, seed=11)
    )


def _agreement(result: Reconstruction, scan: Scan) -> float:
    assert scan.object is not None
    mask = evaluation_mask(result.coverage)
    return compare(result.object, scan.object, mask=mask, origin_px=result.origin_px).phase_correlation


def _blurred(scan: Scan, focus_rad: float) -> Scan:
    """The same counts with a probe out of focus."""
    probe = TrainableProbe(scan.probe, 1.0)
    with torch.no_grad():
        probe.aberrations[0] = focus_rad
        return attrs.evolve(scan, probe=probe().numpy())


def _same_beam(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two probes, 1 if they are the same up to a factor and a translation."""
    spectrum = np.fft.fft2(one[0]) * np.fft.fft2(other[0]).conj()
    return float(np.abs(np.fft.ifft2(spectrum)).max() / (np.linalg.norm(one[0]) * np.linalg.norm(other[0])))


def test_the_weights_fit_in_the_package() -> None:
    """At most 4 MB, with the seed and figures that made them in the header."""
    assert weights_path().stat().st_size <= 4e6

    with safe_open(str(weights_path()), framework="pt") as file:
        assert {"seed", "steps", "learning_rate", "error"} <= file.metadata().keys()


def test_an_object_of_another_class_is_reconstructed_without_training(chip: Scan) -> None:
    """One call, no training: the phases follow the truth."""
    result = reconstruct(generalist_for(chip), chip)

    assert result.probe_source == "scan"
    assert _agreement(result, chip) > 0.95


def test_patterns_of_an_odd_side_are_reconstructed() -> None:
    """Any side will do: 47 px are as good as 48."""
    config = SimulationConfig(N=47, object_kind=ObjectKind.CHIP, object_size_px=84, step_px=6.0, photons=1e6, seed=11)
    scan = simulate(config)
    as_given = TorchInferenceConfig(probe_rounds=0)

    assert _agreement(reconstruct(generalist_for(scan), scan, inference_config=as_given), scan) > 0.95


def test_a_wrong_probe_is_refined_on_the_way(chip: Scan) -> None:
    """Out of focus by half a radian, the beam is found again, and the object with it."""
    blurred = _blurred(chip, 0.5)
    model = generalist_for(blurred)

    as_given = reconstruct(model, blurred, inference_config=TorchInferenceConfig(probe_rounds=0))
    refined = reconstruct(model, blurred)

    assert _same_beam(refined.probe, chip.probe) > _same_beam(as_given.probe, chip.probe) + 0.05
    assert _agreement(refined, chip) > _agreement(as_given, chip) + 0.02
    assert refined.metrics["r_factor"] < as_given.metrics["r_factor"]


@pytest.mark.parametrize(("initial", "shipped"), [("auto", True), ("generalist", True), ("random", False)])
def test_a_training_starts_from_the_weights_asked_for(initial: str, shipped: bool, tmp_path: Path) -> None:
    """The package's own by default, random ones if asked for."""
    start = starting_network(payload_for(tmp_path, {**DEFAULT_NETWORK, "initial_weights": initial}))

    wanted = pretrained_generator().state_dict()
    same = all(torch.equal(value, wanted[name]) for name, value in start.generator.state_dict().items())
    assert same is shipped
    assert start.pretrained is shipped
    assert start.generator.training


@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_the_weights_fit_any_number_of_repeats(repeats: int, tmp_path: Path) -> None:
    """They add no weights; the network has as many as asked for."""
    start = starting_network(payload_for(tmp_path, {**DEFAULT_NETWORK, "unrolled_repeats": repeats}))

    assert start.pretrained
    assert len(start.generator.steps()) == 6 + 3 * repeats


@pytest.mark.parametrize("other", [{"n_filters_scale": 1}, {"unrolled_steps": 2}, {"architecture": "unet"}])
def test_another_network_starts_at_random(other: Mapping[str, object], tmp_path: Path) -> None:
    """The package's weights are refused by name where they do not fit, and left out by themselves."""
    settings = {**DEFAULT_NETWORK, **other}

    assert not starting_network(payload_for(tmp_path, settings)).pretrained
    with pytest.raises(ConfigError, match="initial_weights"):
        starting_network(payload_for(tmp_path, {**settings, "initial_weights": "generalist"}))


def test_another_network_is_told_without_steps(tmp_path: Path) -> None:
    """It has none."""
    payload = payload_for(tmp_path, {"architecture": "unet", "initial_weights": "generalist"})

    with pytest.raises(ConfigError, match=r"found unet$"):
        starting_network(payload)


def test_a_training_refines_the_probe_first(tmp_path: Path) -> None:
    """With a network that knows how, the training starts from a better probe; rounds can be set, and 0 leaves it."""
    scan = tiny_scan()
    blurred = _blurred(scan, 0.4)

    start, rounds = {}, {"none": 0, "one": 1, "default": None}
    for name, number in rounds.items():
        left = {"position_refinement": "none", "orientation_search": "never", "probe_search": "never"}
        settings = {**DEFAULT_NETWORK, **left, "probe_autofocus": False, "probe_rounds": number}
        start[name] = module_of(payload_for(tmp_path, settings), blurred).probes[0]().detach().numpy()

    assert _same_beam(start["none"], blurred.probe) == pytest.approx(1.0, abs=1e-5)
    assert _same_beam(start["one"], blurred.probe) < 1 - 1e-5
    assert _same_beam(start["default"], scan.probe) > _same_beam(start["none"], scan.probe)


def test_a_scan_is_prepared_under_what_was_trained_from_the_weights_too(chip: Scan, tmp_path: Path) -> None:
    """A training that left the probe as it was hands on a wrong one, which is found out; other weights cannot tell."""
    blurred, settings = _blurred(chip, 0.5), {**DEFAULT_NETWORK, "n_groups": 4, "gridsize": 1, "epochs": 1}
    model = train(payload_for(tmp_path, {**settings, "probe_autofocus": False, "probe_rounds": 0}), blurred)

    as_trained = reconstruct(model, blurred, inference_config=TorchInferenceConfig(probe_rounds=0))
    prepared = reconstruct(model, blurred)

    assert (as_trained.probe_refined, prepared.probe_refined) == (False, True)
    assert _agreement(prepared, chip) > _agreement(as_trained, chip) + 0.02
    at_random = payload_for(tmp_path, {**settings, "initial_weights": "random"})
    assert (knows_faults(model), knows_faults(attrs.evolve(model, payload=at_random))) == (True, False)


def test_few_patterns_are_enough_to_refine_the_probe_of_a_large_scan(chip: Scan) -> None:
    """A pass can be cut down to the patterns around the middle, on the smallest canvas that holds them."""
    model, resident = generalist_for(chip), ResidentScan(chip)
    everything = np.arange(chip.n_patterns)
    factory = PassFactory(model.generator, resident, everything, PyTorchExecutionConfig(), TorchInferenceConfig())
    whole = factory(model.probe, everything)

    few = whole.around_the_middle(9)

    offset = np.linalg.norm(chip.positions_px - chip.positions_px.mean(axis=0), axis=1)
    assert set(few.indices.tolist()) <= set(np.argsort(offset)[:12].tolist())
    assert len(few.indices) == 9
    starts = resident.starts_on_host()[few.indices.numpy()]
    assert few.origin.tolist() == starts.min(axis=0).tolist()
    assert [few.canvas.height, few.canvas.width] == (np.ptp(starts, axis=0) + chip.N).tolist()
    assert few.stitch()[0].shape == (few.canvas.pixels,)
    assert whole.around_the_middle(chip.n_patterns) is whole
