"""Unrolled data consistency on the canvas, with the weights of the torch backend's generator of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import tensorflow as tf

from ptycho_adapters.tensorflow_backend.generators.base import Draft, Generator, View
from ptycho_adapters.tensorflow_backend.generators.layers import (
    Weight,
    conv,
    convolution,
    doubled,
    shuffled,
    smoothed,
)
from ptycho_adapters.tensorflow_backend.physics.data_consistency import asked_change
from ptycho_adapters.tensorflow_backend.physics.optics import as_complex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ptycho_adapters.tensorflow_backend.generators.layers import Weights
    from ptycho_core.config import TorchModelConfig

_MEMORY = 4
_FEATURES = 6 + _MEMORY
_BLOCK = 2  # edge of the pixel blocks that become channels
_MULTIPLE = 8  # sizes that three levels on blocks can halve
_WIDTHS_PER_SCALE = (16, 24, 32)
_SMOOTH_TAPS = (-1 / 16, 4 / 16, 10 / 16, 4 / 16, -1 / 16)
_FIRST_STEP_LENGTH = 1.0
_LARGEST_CORRECTION = 2.0
_DARK_SHARE = 0.05  # of the brightest canvas pixel, added to the divisor: keeps the rim from exploding
_LOG_LIGHT_UNIT, _LOG_LIGHT_MIDDLE = 8.0, 0.5  # bring log light, 1 to 1e6 photons per pixel, to order one


class Unrolled(Generator):
    """A few refinement steps with weights of their own; the later half of them is gone through again.

    Args:
        weights: by their names in torch, in torch's layout.
        steps: number of steps with weights of their own.
        repeats: how often the later half is repeated.
    """

    memory_channels = _MEMORY
    patchwise = False
    weighs_patterns = False

    def __init__(self, weights: Mapping[str, NDArray[Any]], steps: int, repeats: int) -> None:
        super().__init__(weights)
        own = list(range(steps))
        self._order = own + repeats * own[steps // 2 :]

    @property
    def n_steps(self) -> int:
        """Number of steps that are run one after the other."""
        return len(self._order)

    def weights_of(self, step: int, weights: Weights) -> Weights:
        """Give the weights of a step under names that are the same for every step."""
        start = f"refinements.{self._order[step]}."
        return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}

    def contribution(self, weights: Weights, view: View, patches: tf.Tensor) -> tf.Tensor:
        """Give the change that each pattern asks for, times the light on it, (B, C, N, N)."""
        del weights
        return asked_change(view.amplitude, view.probes, patches, view.good_pixels, view.background)

    def combine(self, weights: Weights, total: tf.Tensor, draft: Draft) -> Draft:
        """Correct the object (B, H, W) by the change asked for and by the network."""
        object_, memory = _corrected(weights, total, draft.object, draft.weight, draft.memory)
        return attrs.evolve(draft, object=object_, memory=memory)


def unrolled_weights(model: TorchModelConfig) -> dict[str, Weight]:
    """Give the weights of the network that a configuration asks for."""
    widths = [model.n_filters_scale * width for width in _WIDTHS_PER_SCALE]
    own = {"length": Weight((), _FIRST_STEP_LENGTH), **_unet_weights(*widths)}
    return {
        f"refinements.{step}.{name}": weight for step in range(model.unrolled_steps) for name, weight in own.items()
    }


def _unet_weights(high: int, middle: int, low: int) -> dict[str, Weight]:
    layers = convolution("stem", _BLOCK**2 * _FEATURES, high)
    layers |= _residual_weights("encode_high", high) | convolution("down_middle", high, middle, 2)
    layers |= _residual_weights("encode_middle", middle) | convolution("down_low", middle, low, 2)
    layers |= _residual_weights("low.0", low) | _residual_weights("low.1", low)
    layers |= convolution("up_middle", low, middle, 1) | _residual_weights("decode_middle", middle)
    layers |= convolution("up_high", middle, high, 1) | _residual_weights("decode_high", high)
    layers |= convolution("last", high, _BLOCK**2 * (2 + _MEMORY), start=0.0)
    return {f"network.{name}": weight for name, weight in layers.items()}


def _residual_weights(name: str, channels: int) -> dict[str, Weight]:
    return convolution(f"{name}.first", channels, channels) | convolution(
        f"{name}.second", channels, channels, start=0.0
    )


def _corrected(
    weights: Weights, total: tf.Tensor, object_: tf.Tensor, weight: tf.Tensor, memory: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Map sum of asked changes, object, light and memory to the next object and memory."""
    brightest = tf.reduce_max(weight, axis=(-2, -1), keepdims=True)
    change = total / as_complex(weight + _DARK_SHARE * brightest)
    light = tf.math.log1p(weight) / _LOG_LIGHT_UNIT - _LOG_LIGHT_MIDDLE
    real, imaginary = tf.math.real, tf.math.imag
    features = [real(object_) - 1.0, imaginary(object_), real(change), imaginary(change), light, weight / brightest]
    out = _unet(weights, tf.concat([tf.stack(features, axis=-1), memory], axis=-1))
    smooth = _LARGEST_CORRECTION * smoothed(out[..., :2], _SMOOTH_TAPS)
    correction = tf.complex(smooth[..., 0], smooth[..., 1])
    return object_ + as_complex(weights["length"]) * change + correction, out[..., 2:]


def _unet(weights: Weights, x: tf.Tensor) -> tf.Tensor:
    """Map (B, H, W, features) to (B, H, W, outputs) in [-1, 1]: three levels on blocks of 2x2 pixels."""
    height, width = tf.shape(x)[1], tf.shape(x)[2]
    whole = tf.pad(x, [[0, 0], [0, -height % _MULTIPLE], [0, -width % _MULTIPLE], [0, 0]])
    layers = {name.removeprefix("network."): value for name, value in weights.items()}
    high = _residual(layers, "encode_high", tf.nn.silu(_on_blocks(layers, whole)))
    middle = _residual(layers, "encode_middle", conv(layers, "down_middle", high, stride=2))
    low = conv(layers, "down_low", middle, stride=2)
    low = _residual(layers, "low.1", _residual(layers, "low.0", low))
    middle = _residual(layers, "decode_middle", doubled(conv(layers, "up_middle", low)) + middle)
    high = _residual(layers, "decode_high", doubled(conv(layers, "up_high", middle)) + high)
    return shuffled(tf.tanh(conv(layers, "last", high)), _BLOCK)[:, :height, :width]


def _residual(layers: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    return conv(layers, f"{name}.second", tf.nn.silu(conv(layers, f"{name}.first", x))) + x


def _on_blocks(layers: Weights, x: tf.Tensor) -> tf.Tensor:
    """Convolve blocks of 2x2 pixels as channels, worked out as a strided 6x6 convolution on the pixels."""
    kernel = layers["stem.weight"]
    outputs, edge = int(kernel.shape[-1]), 3 * _BLOCK
    blocks = tf.reshape(kernel, [3, 3, -1, _BLOCK, _BLOCK, outputs])
    pixels = tf.reshape(tf.transpose(blocks, [0, 3, 1, 4, 2, 5]), [edge, edge, -1, outputs])
    margin = [_BLOCK, _BLOCK]
    padded = tf.pad(x, [[0, 0], margin, margin, [0, 0]])
    return tf.nn.conv2d(padded, pixels, _BLOCK, "VALID") + layers["stem.bias"]
