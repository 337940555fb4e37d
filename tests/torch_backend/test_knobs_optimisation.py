"""Settings of the optimiser: each one changes what the optimiser is or does in a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend.training.optimization import clip_adaptively
from torch_sample import Observed, module_of, observed_training, payload_for, quick_training, same

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_adapters.torch_backend import TrainedModel

SGD = {"optimizer": "sgd", "learning_rate": 1e-3}


def _observed(folder: Path, **overrides: object) -> Observed:
    return observed_training(payload_for(folder, overrides))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A training with nothing changed."""
    return quick_training(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(
    "overrides",
    [
        {"learning_rate": 1e-3},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "sgd"},
        {"weight_decay": 0.1},
        {"adam_beta1": 0.5},
        {"adam_beta2": 0.9},
        {"gradient_clip_val": 1e-3},
        {"accum_steps": 2},
        {"scheduler": "CosineAnnealing"},
        {"scheduler": "MultiStage"},
        {"lr_warmup_epochs": 1},
        {"probe_learning_rate": 1e-4},
        {"aberration_learning_rate": 0.5},
        {"probe_trainable": False},
        {"intensity_scale_trainable": True},
    ],
    ids=str,
)
def test_the_setting_changes_the_training(base: TrainedModel, tmp_path: Path, overrides: Mapping[str, object]) -> None:
    """A training with the setting ends elsewhere than one without."""
    assert not same(base, quick_training(tmp_path, overrides))


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_one_asked_for(tmp_path: Path, name: str, kind: type[torch.optim.Optimizer]) -> None:
    """Its class is the one of that name, not a relative."""
    assert type(_observed(tmp_path, optimizer=name).optimizer) is kind


def test_the_optimiser_has_its_numbers(tmp_path: Path) -> None:
    """Betas, weight decay and learning rates arrive in the groups that they are for."""
    run = _observed(
        tmp_path,
        adam_beta1=0.7,
        adam_beta2=0.95,
        weight_decay=0.02,
        learning_rate=3e-4,
        probe_learning_rate=5e-5,
        aberration_learning_rate=0.01,
        intensity_scale_trainable=True,
    )

    network = run.options("network")
    assert (network["betas"], network["weight_decay"], network["base_lr"]) == ((0.7, 0.95), 0.02, 3e-4)
    for name, rate in (("probe", 5e-5), ("aberrations", 0.01), ("scale", 5e-5)):
        assert (run.options(name)["base_lr"], run.options(name)["weight_decay"]) == (rate, 0.0)


def test_the_probe_learns_at_the_network_s_rate_unless_told_otherwise(tmp_path: Path) -> None:
    """Without a rate of its own it has `learning_rate`."""
    assert _observed(tmp_path, learning_rate=7e-4).options("probe")["base_lr"] == 7e-4


def test_momentum_moves_on(tmp_path: Path) -> None:
    """SGD gets its momentum, and another one ends elsewhere."""
    slow, fast = (_observed(tmp_path / str(m), **SGD, momentum=m) for m in (0.1, 0.9))

    assert (slow.options("network")["momentum"], fast.options("network")["momentum"]) == (0.1, 0.9)
    assert not same(slow.model, fast.model)


def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    """Three batches are three steps by one and two steps by two."""
    one, two = (_observed(tmp_path / str(n), accum_steps=n) for n in (1, 2))

    assert [len(run.observer.batches) for run in (one, two)] == [3, 3]
    assert [len(run.observer.rates) for run in (one, two)] == [3, 2]


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_bounded(tmp_path: Path, algorithm: str) -> None:
    """The optimiser sees no gradient beyond the limit, and it was beyond before."""
    limit = 1e-3
    free = _observed(tmp_path / "free")
    bound = _observed(tmp_path / "bound", gradient_clip_val=limit, gradient_clip_algorithm=algorithm)

    order = 2 if algorithm == "norm" else np.inf
    assert np.linalg.norm(free.observer.gradients[0], order) > 10 * limit
    assert all(np.linalg.norm(g, order) <= limit * 1.001 for g in bound.observer.gradients)


def test_adaptive_clipping_is_a_bound_of_its_own(tmp_path: Path) -> None:
    """'agc' ends elsewhere than 'norm' and than no bound."""
    runs = [
        _observed(tmp_path / "agc", gradient_clip_val=1e-3, gradient_clip_algorithm="agc"),
        _observed(tmp_path / "norm", gradient_clip_val=1e-3, gradient_clip_algorithm="norm"),
        _observed(tmp_path / "free"),
    ]

    assert not any(same(runs[i].model, runs[j].model) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_adaptive_clipping_bounds_each_unit_by_its_weights() -> None:
    """A unit's gradient norm becomes a share of its weight norm where it was larger, and stays where it was not."""
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0]]))
    weight.grad = torch.tensor([[30.0, 40.0], [0.03, 0.04], [1.0, 0.0]])

    clip_adaptively([weight], 0.1)

    assert weight.grad is not None
    wanted = [[0.3, 0.4], [0.03, 0.04], [1e-4, 0.0]]  # a unit without weight counts as one of norm 1e-3
    np.testing.assert_allclose(weight.grad.numpy(), wanted, rtol=1e-6)


def test_the_cosine_reaches_the_optimiser(tmp_path: Path) -> None:
    """The rate at each step is the cosine's, down towards the last ratio."""
    run = _observed(tmp_path, scheduler="CosineAnnealing", lr_min_ratio=0.3, learning_rate=1e-3, epochs=2)

    course = [rates["network"] for rates in run.observer.rates]
    wanted = [1e-3 * (0.3 + 0.7 * 0.5 * (1 + np.cos(np.pi * step / 6))) for step in range(6)]
    assert course == pytest.approx(wanted)


def test_the_warm_up_reaches_the_optimiser(tmp_path: Path) -> None:
    """Over the first epoch the rate rises evenly."""
    run = _observed(tmp_path, lr_warmup_epochs=1, learning_rate=3e-3, epochs=2)

    course = [rates["network"] for rates in run.observer.rates]
    assert course == pytest.approx([1e-3, 2e-3, 3e-3, 3e-3, 3e-3, 3e-3])


@pytest.mark.parametrize("scheduler", ["ReduceLROnPlateau", "Adaptive"])
def test_a_plateau_lowers_the_rate(tmp_path: Path, scheduler: str) -> None:
    """Where no change counts as progress, every epoch after the first is a plateau, down to the lowest rate."""
    plateau = {"plateau_patience": 0, "plateau_threshold": 1e6, "plateau_factor": 0.5, "plateau_min_lr": 3e-4}

    run = _observed(tmp_path, scheduler=scheduler, learning_rate=1e-3, epochs=5, n_groups=2, **plateau)

    assert [rates["network"] for rates in run.observer.rates] == pytest.approx([1e-3, 1e-3, 5e-4, 3e-4, 3e-4])


@pytest.mark.parametrize(
    ("changed", "course"),
    [
        ({}, [1.0, 1.0, 0.5, 0.25]),
        ({"plateau_patience": 1}, [1.0, 1.0, 1.0, 0.5]),
        ({"plateau_factor": 0.1}, [1.0, 1.0, 0.1, 0.05]),
        ({"plateau_min_lr": 8e-5}, [1.0, 1.0, 0.5, 0.4]),
        ({"plateau_threshold": 0.0}, [1.0, 1.0, 1.0, 1.0]),
    ],
    ids=str,
)
def test_plateaus_have_settings(tmp_path: Path, changed: Mapping[str, object], course: list[float]) -> None:
    """Patience, factor, lowest rate and threshold each change the course; a falling loss is no plateau."""
    plateau = {"plateau_patience": 0, "plateau_threshold": 1e6, "plateau_factor": 0.5, "plateau_min_lr": 1e-5}
    slow = {"learning_rate": 2e-4, "probe_trainable": False, "n_groups": 2, "epochs": 4}

    run = _observed(tmp_path, scheduler="Adaptive", **{**slow, **plateau, **changed})

    assert [rates["network"] / 2e-4 for rates in run.observer.rates] == pytest.approx(course)


def test_the_probe_waits_for_the_network(tmp_path: Path) -> None:
    """In the first tenth of a run the probe's pixels stay, then they learn at their rate."""
    run = _observed(tmp_path, n_groups=2, epochs=10, probe_learning_rate=1e-4, validation_fraction=0.0)

    assert [rates["probe"] for rates in run.observer.rates] == [0.0] + [1e-4] * 9


def test_a_fixed_probe_stays_as_it_was(tmp_path: Path) -> None:
    """With probe_trainable off, no optimiser touches it; with it on, it moves."""
    still, moving = (_observed(tmp_path / str(on), probe_trainable=on, epochs=2) for on in (False, True))

    start = module_of(still.model.payload).state_dict()
    end = still.trainer.lightning_module.state_dict()
    assert all(torch.equal(start[name], end[name]) for name in start if name.startswith("illumination."))
    assert {"illumination.0.pixels", "illumination.0.aberrations"} <= start.keys()
    assert {options["name"] for options in still.optimizer.param_groups} == {"network"}
    np.testing.assert_allclose(still.model.probe, still.model.start_probe, atol=1e-5 * np.abs(still.model.probe).max())
    assert np.abs(moving.model.probe - moving.model.start_probe).max() > 1e-3 * np.abs(moving.model.probe).max()


def test_a_trainable_scale_ends_in_the_probe(tmp_path: Path) -> None:
    """The learned factor on the counts becomes the energy of the probe; without it, the energy is the flux."""
    fixed, free = (_observed(tmp_path / str(on), intensity_scale_trainable=on, epochs=2).model for on in (False, True))

    energies = [float(np.sum(np.abs(model.probe.astype(np.complex128)) ** 2)) / model.flux for model in (fixed, free)]
    assert energies[0] == pytest.approx(1.0, rel=1e-5)
    assert abs(energies[1] - 1.0) > 1e-4
