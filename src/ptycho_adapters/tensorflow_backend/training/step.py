"""The training step as one graph: move the probe, predict on the canvas, propagate, compare, change the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho_adapters.tensorflow_backend.generators.base import Steps, View
from ptycho_adapters.tensorflow_backend.generators.layers import from_torch, to_torch
from ptycho_adapters.tensorflow_backend.patterns import Canvas, Patterns
from ptycho_adapters.tensorflow_backend.physics.canvas import accumulate, extract
from ptycho_adapters.tensorflow_backend.physics.optics import as_complex, light_of, shift_probe
from ptycho_adapters.tensorflow_backend.training.checkpoints import WEIGHTS
from ptycho_adapters.tensorflow_backend.training.objective import Objective, Prediction
from ptycho_adapters.tensorflow_backend.training.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_core.config import TorchTrainingConfig

_TINY = 1e-37


@attrs.frozen(kw_only=True, eq=False)
class Arm:
    """Patterns of one scan, to train on or to validate on.

    Attributes:
        patterns: of the scan.
        canvas: holds any of the groups.
        probe: (modes, N, N) complex64 at the scan's flux.
        background: counts per pixel that do not come from the beam.
    """

    patterns: Patterns
    canvas: Canvas
    probe: NDArray[np.complex64]
    background: float


class Learner:
    """Weights that are being learned.

    Args:
        generator: the network with the weights to start from.
        config: optimiser and loss.
    """

    def __init__(self, generator: Generator, config: TorchTrainingConfig) -> None:
        self._generator, self._objective = generator, Objective(config)
        self._steps = Steps(generator)
        self._drafts = bool(config.draft_weight)
        self._variables = {name: tf.Variable(np.array(from_torch(value))) for name, value in generator.weights.items()}
        self._optimizer = Optimizer(list(self._variables.values()), config)
        self._learn = tf.function(self._learn_once, autograph=False, reduce_retracing=True)
        self._judge = tf.function(self._judge_once, autograph=False, reduce_retracing=True)

    def learn(self, arm: Arm, groups: NDArray[np.integer], rate: float) -> float:
        """Take a step on groups (B, C) of scan indices; gives the main term of the loss before it."""
        return float(self._learn(*_inputs(arm, groups), tf.constant(rate, tf.float32)))

    def judge(self, arm: Arm, groups: NDArray[np.integer]) -> float:
        """Give the main term for groups (B, C) of scan indices."""
        return float(self._judge(*_inputs(arm, groups)))

    def gradient(self, arm: Arm, groups: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
        """Give the gradient of the loss for groups (B, C), by names and in the layout of torch."""
        found, _ = tf.function(self._gradients, autograph=False)(*_inputs(arm, groups))
        return {name: to_torch(each.numpy()) for name, each in zip(self._variables, found, strict=True)}

    def weights(self) -> dict[str, NDArray[Any]]:
        """Give the weights, by names and in the layout of torch."""
        return {name: to_torch(variable.numpy()) for name, variable in self._variables.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """Give all that the next step depends on: the weights behind `generator.`, and what the optimiser remembers."""
        return {name: to_torch(variable.numpy()) for name, variable in self._remembered().items()}

    def take_up(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        for name, variable in self._remembered().items():
            variable.assign(np.array(from_torch(state[name])))

    def _remembered(self) -> dict[str, tf.Variable]:
        weights = {f"{WEIGHTS}{name}": variable for name, variable in self._variables.items()}
        return weights | self._optimizer.remembered(list(self._variables))

    def _learn_once(self, inputs: _Inputs, canvas: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        gradients, main = self._gradients(inputs, canvas)
        self._optimizer.step(gradients, rate)
        return main

    def _judge_once(self, inputs: _Inputs, canvas: tf.Tensor) -> tf.Tensor:
        return self._objective.total(self._predict(inputs, canvas))[1]

    def _gradients(self, inputs: _Inputs, canvas: tf.Tensor) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, main = self._objective.total(self._predict(inputs, canvas))
        variables = list(self._variables.values())
        return tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), main

    def _predict(self, inputs: _Inputs, canvas: tf.Tensor) -> Prediction:
        counts, fractions_px, where, probe, good, background = inputs
        probes = shift_probe(probe, fractions_px)
        light = light_of(probes)
        view = View(
            amplitude=tf.sqrt(counts),
            probes=probes,
            weight=light,
            where=where,
            good_pixels=good,
            background=background,
        )
        pixels, groups = canvas[0] * canvas[1], tf.shape(counts)[0]
        shape = tf.stack([groups, canvas[0], canvas[1]])
        summed = tf.reshape(accumulate(light, where, pixels), shape)
        drafts, added = zip(*self._steps.run(self._variables, view, summed), strict=True)
        judged = drafts if self._drafts else drafts[-1:]
        size = int(counts.shape[-1])
        patches = tuple(extract(tf.reshape(each.object, [groups, pixels]), where, size) for each in judged)
        alone = added[-1] / as_complex(tf.maximum(light, _TINY)) if self._generator.patchwise else None
        return Prediction(
            single=alone,
            merged=patches[-1],
            drafts=patches[:-1],
            probes=probes,
            counts=counts,
            good_pixels=good,
            background=background,
        )


_Inputs = tuple[tf.Tensor, ...]


def _inputs(arm: Arm, groups: NDArray[np.integer]) -> tuple[_Inputs, tf.Tensor]:
    """Bring some groups to the device."""
    group, good = arm.patterns.gather(groups), arm.patterns.good_pixels
    corner = group.starts.min(axis=1, keepdims=True)
    inputs = (
        tf.constant(group.counts),
        tf.constant(group.fractions_px),
        tf.constant(arm.canvas.where(group.starts, corner, arm.patterns.size)),
        tf.constant(arm.probe),
        None if good is None else tf.constant(good),
        tf.constant(arm.background, tf.float32),
    )
    return inputs, tf.constant([arm.canvas.height, arm.canvas.width])
