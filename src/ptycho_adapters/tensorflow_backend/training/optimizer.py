"""Optimisers with the arithmetic of torch's, and gradient clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_core.config import TorchTrainingConfig

_SMALLEST = 1e-8  # added to the root of the second moment
_NORM_FLOOR = 1e-6  # added to the norm that a bound is divided by
_AGC_FLOOR = 1e-3
_TINY = 1e-37


class Optimizer:
    """Adam (Kingma & Ba, arXiv 1412.6980), AdamW (Loshchilov & Hutter, arXiv 1711.05101) or SGD with momentum.

    Args:
        variables: to be changed.
        config: names the optimiser and its numbers.
    """

    def __init__(self, variables: Sequence[tf.Variable], config: TorchTrainingConfig) -> None:
        self._variables, self._config = variables, config
        self._first = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
        adaptive = config.optimizer != "sgd"
        self._second = [tf.Variable(tf.zeros_like(variable)) for variable in variables] if adaptive else []
        self._steps = tf.Variable(0.0)

    def remembered(self, names: Sequence[str]) -> dict[str, tf.Variable]:
        """Give what is kept from step to step, by name.

        Args:
            names: of the variables that are changed.
        """
        kept = {f"optimizer.first.{name}": value for name, value in zip(names, self._first, strict=True)}
        if self._second:
            kept |= {f"optimizer.second.{name}": value for name, value in zip(names, self._second, strict=True)}
        return {**kept, "optimizer.steps": self._steps}

    def step(self, gradients: Sequence[tf.Tensor], rate: tf.Tensor) -> None:
        """Change the variables; part of a graph.

        Args:
            gradients: of the variables, bounded already.
            rate: learning rate, ().
        """
        self._steps.assign_add(1.0)
        bounded = clipped(gradients, self._variables, self._config)
        for number, (variable, gradient) in enumerate(zip(self._variables, bounded, strict=True)):
            change = self._change(number, self._decayed(variable, gradient, rate))
            variable.assign_sub(rate * change)

    def _decayed(self, variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        decay = self._config.weight_decay
        if not decay:
            return gradient
        if self._config.optimizer == "adamw":
            variable.assign(variable * (1.0 - rate * decay))
            return gradient
        return gradient + decay * variable

    def _change(self, number: int, gradient: tf.Tensor) -> tf.Tensor:
        config, first = self._config, self._first[number]
        if not self._second:
            return first.assign(config.momentum * first + gradient)
        second = self._second[number]
        mean = first.assign(config.adam_beta1 * first + (1.0 - config.adam_beta1) * gradient)
        square = second.assign(config.adam_beta2 * second + (1.0 - config.adam_beta2) * tf.square(gradient))
        # In the order of torch, to the last digit but a few.
        root = tf.sqrt(square) / tf.sqrt(1.0 - config.adam_beta2**self._steps) + _SMALLEST
        return mean / root / (1.0 - config.adam_beta1**self._steps)


def clipped(
    gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable], config: TorchTrainingConfig
) -> list[tf.Tensor]:
    """Bound gradients as configured: by global norm, by value, or adaptively."""
    limit = config.gradient_clip_val
    if limit is None:
        return list(gradients)
    match config.gradient_clip_algorithm:
        case "norm":
            factor = tf.minimum(limit / (tf.linalg.global_norm(gradients) + _NORM_FLOOR), 1.0)
            return [factor * gradient for gradient in gradients]
        case "value":
            return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
        case "agc":
            return [_adaptively(*pair, limit) for pair in zip(gradients, variables, strict=True)]


def _adaptively(gradient: tf.Tensor, variable: tf.Variable, ratio: float) -> tf.Tensor:
    """Bound each output's gradient norm by a share of its weight norm (Brock et al., arXiv 2102.06171, eq. 3)."""
    axes = tuple(range(len(variable.shape) - 1)) or None  # outputs come last
    weight, own = (tf.sqrt(tf.reduce_sum(tf.square(each), axis=axes, keepdims=True)) for each in (variable, gradient))
    return gradient * tf.minimum(ratio * tf.maximum(weight, _AGC_FLOOR) / tf.maximum(own, _TINY), 1.0)
