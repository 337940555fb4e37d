"""A training that has collapsed says so; one that learns does not."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import attrs
import pytest
import torch
from torch import nn

from ptycho_adapters.torch_backend.training.collapse import (
    Collapse,
    CollapseDetector,
    CollapseWarning,
    Symptoms,
    symptoms,
)
from torch_sample import module_of, observed_training, payload_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lightning import Callback

    from torch_sample import Observed

HEALTHY = Symptoms(
    finite=True,
    amplitude=0.9,
    pattern_spread=0.1,
    amplitude_spread=0.1,
    phase_spread_rad=0.3,
    dead_units=0.2,
)
LONG_ENOUGH = {"epochs": 17, "n_groups": 6, "gridsize": 1, "neighbor_count": 1, "validation_fraction": 0.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ()),
        ({"finite": False}, (Collapse.DIVERGED,)),
        ({"finite": False, "dead_units": 0.9}, (Collapse.DIVERGED,)),
        ({"amplitude": 1e-4, "pattern_spread": 0.0}, (Collapse.DARK,)),
        ({"amplitude": 40.0}, (Collapse.RUNAWAY,)),
        ({"pattern_spread": 1e-5}, (Collapse.CONSTANT,)),
        ({"amplitude_spread": 1e-5}, (Collapse.FLAT_AMPLITUDE,)),
        ({"amplitude_spread": 1e-5, "phase_spread_rad": 1e-4}, ()),
        ({"dead_units": 0.7}, (Collapse.DEAD_UNITS,)),
        ({"dead_units": 0.7, "pattern_spread": 0.0}, (Collapse.CONSTANT, Collapse.DEAD_UNITS)),
    ],
    ids=str,
)
def test_symptoms_have_names(change: Mapping[str, float], expected: tuple[Collapse, ...]) -> None:
    """Each kind of failure is told from a healthy network and from the others."""
    assert attrs.evolve(HEALTHY, **change).collapses() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("collapse", Collapse)
def test_every_message_says_why_and_what_to_do(collapse: Collapse) -> None:
    """A likely cause, and a setting to change."""
    assert "most likely" in collapse
    assert any(setting in collapse for setting in ("learning_rate", "amp_activation", "gradient_clip_val"))


def _broken(tmp_path: Path, architecture: str, breaking: Callable[[nn.Module], object]) -> Symptoms:
    module = module_of(payload_for(tmp_path, {"architecture": architecture, "n_groups": 36}))
    for parameter in module.generator.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    breaking(module.generator)
    return symptoms(module, torch.arange(16).reshape(4, 4))


def _phase_alone(network: nn.Module) -> None:
    head = network.get_submodule("autoencoder.decoder_amp.amp")
    for name, value in (("conv1", 1.2784645), ("conv2", 1.2784645)):
        weight, bias = head.get_submodule(name).parameters()
        nn.init.zeros_(weight)
        nn.init.constant_(bias, value)


def _buried(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.constant_(layer.bias, -50.0)


@pytest.mark.parametrize(
    ("architecture", "breaking", "expected"),
    [
        ("unet", lambda network: None, set()),
        ("cnn", lambda network: None, set()),
        ("unet", lambda network: nn.init.constant_(next(network.parameters()), float("nan")), {Collapse.DIVERGED}),
        (
            "unet",
            lambda network: [nn.init.zeros_(p) for p in network.parameters()],
            {Collapse.CONSTANT, Collapse.DEAD_UNITS},
        ),
        ("cnn", _phase_alone, {Collapse.FLAT_AMPLITUDE}),
        ("cnn", _buried, {Collapse.DARK, Collapse.DEAD_UNITS}),
    ],
)
def test_broken_networks_are_recognised(
    tmp_path: Path, architecture: str, breaking: Callable[[nn.Module], object], expected: set[Collapse]
) -> None:
    """Weights of NaN, of zero, an amplitude without structure and units that never fire are told apart."""
    assert {*_broken(tmp_path, architecture, breaking).collapses()} == expected


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    """The network keeps no hook and no gradient."""
    module = module_of(payload_for(tmp_path, {"n_groups": 36}))

    symptoms(module, torch.arange(8).reshape(2, 4))

    assert not any(layer._forward_pre_hooks for layer in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def _detector(run: Observed) -> CollapseDetector:
    callbacks: list[Callback] = getattr(run.trainer, "callbacks")  # noqa: B009 - Lightning does not declare it
    (detector,) = [callback for callback in callbacks if isinstance(callback, CollapseDetector)]
    return detector


def test_absurd_steps_are_noticed(tmp_path: Path) -> None:
    """A training at five thousand times the learning rate warns, once for all its looks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        observed_training(payload_for(tmp_path, {**LONG_ENOUGH, "learning_rate": 10.0, "epochs": 34}))

    told = [str(w.message) for w in caught if issubclass(w.category, CollapseWarning)]
    assert len(told) == len(set(told)) == 1
    assert told[0].startswith("step 51: the network")


def test_a_training_that_learns_is_left_alone(tmp_path: Path) -> None:
    """At an ordinary learning rate nothing is said, though it was looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = observed_training(payload_for(tmp_path, LONG_ENOUGH))

    assert _detector(run).looks == 1


def test_short_runs_are_not_judged(tmp_path: Path) -> None:
    """A network that has hardly begun to learn still gives its first patches."""
    run = observed_training(payload_for(tmp_path, {"learning_rate": 1e-9}))

    assert _detector(run).looks == 0
