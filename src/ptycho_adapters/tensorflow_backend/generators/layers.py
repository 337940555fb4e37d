"""Layers as functions of named weights: convolutions and what goes with them, on images (B, H, W, channels)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from numpy.typing import NDArray

Weights = Mapping[str, "tf.Tensor"]
"""By their names in torch; kernels are (height, width, inputs, outputs), matrices (inputs, outputs)."""

Shape = tuple[int, ...]
_REDUCED = {4: (2, 3, 1, 0), 2: (1, 0)}


@attrs.frozen
class Weight:
    """A weight that a network has.

    Attributes:
        shape: in torch's layout.
        start: how it starts: `uniform` up to one over the root of what adds up, either sign or `positive`; `kaiming`,
            for a ReLU; or a number.
        inputs: how many numbers add up in it.
    """

    shape: Shape
    start: str | float
    inputs: int = 1


def convolution(
    name: str, inputs: int, outputs: int, edge: int = 3, *, start: str | float = "uniform"
) -> dict[str, Weight]:
    """Give kernel and bias of a convolution as torch would start them."""
    fan = inputs * edge * edge
    bias: str | float = "uniform" if start == "uniform" else 0.0
    return {
        f"{name}.weight": Weight((outputs, inputs, edge, edge), start, fan),
        f"{name}.bias": Weight((outputs,), bias, fan),
    }


def started(weights: Mapping[str, Weight], seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw first weights, in torch's layout."""
    random = np.random.default_rng(seed)
    return {name: np.asarray(_started(weight, random), dtype=np.float32) for name, weight in weights.items()}


def _started(weight: Weight, random: np.random.Generator) -> NDArray[np.float64]:
    bound = math.sqrt(1.0 / weight.inputs)
    match weight.start:
        case "uniform":
            return random.uniform(-bound, bound, weight.shape)
        case "positive":
            return random.uniform(0.0, bound, weight.shape)
        case "kaiming":
            return math.sqrt(2.0) * bound * random.standard_normal(weight.shape)
        case constant:
            return np.full(weight.shape, float(constant))


def from_torch(value: NDArray[Any]) -> NDArray[Any]:
    """Bring a weight into the layout of TensorFlow."""
    return np.transpose(value, _REDUCED[value.ndim]) if value.ndim in _REDUCED else value


def to_torch(value: NDArray[Any]) -> NDArray[Any]:
    """Bring a weight into the layout of torch."""
    back = {axes: tuple(np.argsort(order)) for axes, order in _REDUCED.items()}
    return np.array(np.transpose(value, back[value.ndim]) if value.ndim in back else value, order="C")


def conv(weights: Weights, name: str, x: tf.Tensor, *, stride: int = 1) -> tf.Tensor:
    """Convolve; what lies outside is zero, and a stride is as wide as its kernel."""
    kernel = weights[f"{name}.weight"]
    made = tf.nn.conv2d(x, kernel, stride, "SAME" if stride == 1 else "VALID")
    bias = weights.get(f"{name}.bias")
    return made if bias is None else made + bias


def shuffled(x: tf.Tensor, block: int) -> tf.Tensor:
    """Make pixels of channels: (B, h, w, C * block²) to (B, h * block, w * block, C), channels in torch's order."""
    batch, height, width = (tf.shape(x)[axis] for axis in range(3))
    channels = int(x.shape[-1]) // block**2
    parts = tf.reshape(x, [batch, height, width, channels, block, block])
    turned = tf.transpose(parts, [0, 1, 4, 2, 5, 3])
    return tf.reshape(turned, [batch, height * block, width * block, channels])


def doubled(x: tf.Tensor) -> tf.Tensor:
    """Twice the resolution, bilinear between pixel centres; beyond the rim its value goes on."""
    return _doubled_along(_doubled_along(x, 1), 2)


def repeated(x: tf.Tensor) -> tf.Tensor:
    """Twice the resolution, each pixel four times."""
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def smoothed(x: tf.Tensor, taps: Sequence[float]) -> tf.Tensor:
    """Filter rows and columns with the same taps; beyond the rim its value goes on."""
    return _smoothed_along(_smoothed_along(x, taps, 1), taps, 2)


def _smoothed_along(x: tf.Tensor, taps: Sequence[float], axis: int) -> tf.Tensor:
    reach, size = len(taps) // 2, tf.shape(x)[axis]
    first, last = _slice(x, axis, 0, 1), _slice(x, axis, size - 1, size)
    padded = tf.concat([first] * reach + [x] + [last] * reach, axis)
    return tf.add_n([tap * _slice(padded, axis, place, place + size) for place, tap in enumerate(taps)])


def _doubled_along(x: tf.Tensor, axis: int) -> tf.Tensor:
    size = tf.shape(x)[axis]
    before = tf.concat([_slice(x, axis, 0, 1), _slice(x, axis, 0, size - 1)], axis)
    after = tf.concat([_slice(x, axis, 1, size), _slice(x, axis, size - 1, size)], axis)
    both = tf.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    shape = tf.shape(x)
    grown = tf.tensor_scatter_nd_update(shape, [[axis]], [2 * size])
    made = tf.reshape(both, grown)
    made.set_shape([*x.shape[:axis], None, *x.shape[axis + 1 :]])
    return made


def _slice(x: tf.Tensor, axis: int, begin: tf.Tensor | int, end: tf.Tensor | int) -> tf.Tensor:
    return x[:, begin:end] if axis == 1 else x[:, :, begin:end]
