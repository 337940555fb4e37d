"""What a step minimises and how it changes the weights, setting by setting, beside torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho_adapters.tensorflow_backend.generators.layers import from_torch, to_torch
from ptycho_adapters.tensorflow_backend.training import objective, optimizer
from ptycho_adapters.torch_backend.training import objective as torch_objective
from ptycho_adapters.torch_backend.training import optimization
from ptycho_core.config import TorchTrainingConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANDOM = np.random.default_rng(0)
VALUES: list[NDArray[np.float32]] = [
    RANDOM.standard_normal(shape).astype(np.float32) for shape in ((), (5,), (4, 3), (4, 3, 3, 3))
]
GRADIENTS: list[list[NDArray[np.float32]]] = [
    [(3.0 * RANDOM.standard_normal(value.shape)).astype(np.float32) for value in VALUES] for _ in range(4)
]
OPTIMISERS: list[dict[str, Any]] = [
    {},
    {"gradient_clip_val": None},
    {"adam_beta1": 0.5, "adam_beta2": 0.9},
    {"weight_decay": 0.1},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1},
    {"gradient_clip_algorithm": "value", "gradient_clip_val": 0.5, "optimizer": "sgd"},
    {"gradient_clip_algorithm": "agc", "gradient_clip_val": 0.1, "optimizer": "sgd"},
]
LOSSES: list[dict[str, Any]] = [
    {},
    {"torch_loss_mode": "mae"},
    {"torch_loss_mode": "mae", "torch_mae_pred_l2_match_target": True},
    {"mae_weight": 0.7},
    {"nll_weight": 0.3},
    {"unmerged_weight": 0.5},
    {"draft_weight": 0.5},
    {"realspace_weight": 0.5},
    {"realspace_mae_weight": 0.5},
]


def stepped(settings: dict[str, Any]) -> list[NDArray[np.float32]]:
    """Weights after some steps of TensorFlow, in torch's layout."""
    config = TorchTrainingConfig(**settings)
    variables = [tf.Variable(np.array(from_torch(value))) for value in VALUES]
    made = optimizer.Optimizer(variables, config)
    for gradients in GRADIENTS:
        made.step([tf.constant(np.array(from_torch(each))) for each in gradients], tf.constant(0.05))
    return [to_torch(variable.numpy()) for variable in variables]


@pytest.mark.parametrize("settings", OPTIMISERS)
def test_the_optimiser_is_that_of_torch(settings: dict[str, Any]) -> None:
    """The same weights after some steps, whatever is decayed and bounded."""
    config = TorchTrainingConfig(**{**settings, "learning_rate": 0.05, "probe_trainable": False})
    network = torch.nn.ParameterList(torch.nn.Parameter(torch.tensor(value)) for value in VALUES)
    made = optimization.build_optimizer(network, [], [], config)
    for gradients in GRADIENTS:
        for parameter, gradient in zip(network, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimization.clip_gradients(network.parameters(), config)
        made.step()

    for found, wanted in zip(stepped(settings), network, strict=True):
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("settings", OPTIMISERS[1:])
def test_a_setting_of_the_optimiser_changes_the_weights(settings: dict[str, Any]) -> None:
    """None of them is passed over."""
    pairs = zip(stepped({}), stepped(settings), strict=True)

    assert max(float(np.abs(one - other).max()) for one, other in pairs) > 1e-3


def losses(settings: dict[str, Any]) -> tuple[float, float]:
    """Loss and main term in TensorFlow, which are held against torch's on the way."""
    config = TorchTrainingConfig(**{"unmerged_weight": 0.0, **settings})
    random = np.random.default_rng(1)

    def waves(*shape: int) -> NDArray[np.complex64]:
        return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(np.complex64)

    single, merged, draft, probes = waves(2, 3, 8, 8), waves(2, 3, 8, 8), waves(2, 3, 8, 8), waves(2, 3, 2, 8, 8) * 5
    counts = random.poisson(30, (2, 3, 8, 8)).astype(np.float32)
    good = (random.random((8, 8)) > 0.2).astype(np.float32)
    ours = objective.Prediction(
        single=tf.constant(single),
        merged=tf.constant(merged),
        drafts=(tf.constant(draft),),
        probes=tf.constant(probes),
        counts=tf.constant(counts),
        good_pixels=tf.constant(good),
        background=0.2,
    )
    theirs = torch_objective.Prediction(
        single=torch.tensor(single),
        merged=torch.tensor(merged),
        drafts=(torch.tensor(draft),),
        probes=torch.tensor(probes),
        counts=torch.tensor(counts),
        good_pixels=torch.tensor(good),
        scale=torch.tensor(1.0),
        background=0.2,
    )
    found = objective.Objective(config).total(ours)
    wanted = torch_objective.Objective.from_config(config, config.torch_loss_mode).total(theirs)

    np.testing.assert_allclose([float(each) for each in found], [each.item() for each in wanted], rtol=1e-5)
    return float(found[0]), float(found[1])


@pytest.mark.parametrize("settings", LOSSES)
def test_the_loss_is_that_of_torch_and_every_weight_counts(settings: dict[str, Any]) -> None:
    """Term by term."""
    loss, main = losses(settings)

    assert not settings or (loss, main) != losses({})
