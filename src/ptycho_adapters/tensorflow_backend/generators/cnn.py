"""The two-decoder autoencoder of the legacy project, with the weights of the torch backend's generator of that name."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import attrs
import tensorflow as tf

from ptycho_adapters.common.cnn_structure import (
    ATTENTION_PX,
    IMAGINARY_RANGE,
    INVERSE_OF_ONE,
    REAL_OFFSET,
    REDUCTION,
)
from ptycho_adapters.tensorflow_backend.generators.base import Draft, Generator, View
from ptycho_adapters.tensorflow_backend.generators.layers import Weight, conv, convolution, repeated
from ptycho_adapters.tensorflow_backend.physics.optics import (
    as_complex,
    exit_waves,
    intensity,
    light_of,
    visible_amplitude,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ptycho_adapters.common.cnn_structure import CnnStructure
    from ptycho_adapters.tensorflow_backend.generators.layers import Weights

    Activation = Callable[[tf.Tensor], tf.Tensor]

_ACTIVATIONS = {"silu": "silu", "sigmoid": "sigmoid", "softplus": "softplus", "relu": "relu"}
_TINY = 1e-37  # no light at all would be divided by
_HEADS = {"amp": "autoencoder.decoder_amp", "phase": "autoencoder.decoder_phase"}


class Cnn(Generator):
    """The autoencoder as a generator that sees each pattern by itself; overlapping patches are averaged.

    Args:
        weights: by their names in torch, in torch's layout.
        structure: what they depend on.

    Raises:
        ValueError: the structure sees several patterns together.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]], structure: CnnStructure) -> None:
        if structure.channels != 1:
            raise ValueError(f"a cnn of {structure.channels} patterns together is built with torch alone")
        super().__init__(weights)
        self.structure = structure

    @property
    def n_steps(self) -> int:
        """Number of steps that are run one after the other."""
        return 1

    def weights_of(self, step: int, weights: Weights) -> Weights:
        """Give the weights of the only step."""
        del step
        return weights

    def contribution(self, weights: Weights, view: View, patches: tf.Tensor) -> tf.Tensor:
        """Give weighted patches, (B, C, N, N)."""
        del patches
        beam = tf.sqrt(tf.maximum(tf.square(view.amplitude) - view.background, 0.0))
        amplitude = visible_amplitude(beam, view.probes, view.good_pixels)
        return as_complex(view.weight) * self.patches(weights, amplitude, view.probes)

    def combine(self, weights: Weights, total: tf.Tensor, draft: Draft) -> Draft:
        """Give the weighted mean, and ones where there is no weight."""
        del weights
        lit = draft.weight > 0
        mean = total / as_complex(tf.where(lit, draft.weight, tf.ones_like(draft.weight)))
        return attrs.evolve(draft, object=tf.where(lit, mean, tf.ones_like(mean)))

    def patches(self, weights: Weights, amplitude: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
        """Map amplitudes (B, C, N, N), DC in the centre, to object patches (B, C, N, N), each by itself."""
        size = self.structure.size
        flux = tf.reduce_sum(intensity(probes), axis=(-3, -2, -1))
        gain = self.structure.input_rms * size / tf.sqrt(flux)
        seen = tf.reshape(amplitude * gain[..., None, None], [-1, size, size, 1])
        first, second = (tf.reshape(head, tf.shape(amplitude)) for head in self._heads(weights, seen))
        if self.structure.combination == "polar":
            made = tf.complex(first * tf.cos(second), first * tf.sin(second))
        else:
            made = tf.complex(first, second)
        if self.structure.object_scale is None:
            return made * as_complex(_energy_factor(made, amplitude, probes))
        return made * tf.constant(self.structure.object_scale, made.dtype)

    def _heads(self, weights: Weights, seen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Map amplitudes (B, N, N, 1) as the network sees them to what the two heads make of them."""
        code = seen
        for block in range(len(self.structure.encoder_channels) - 1):
            code = self._encoded(weights, f"autoencoder.encoder.blocks.{block}", code)
        bounded = self.structure.combination == "real_imag"
        activation = getattr(tf.nn, _ACTIVATIONS[self.structure.activation])
        first = (lambda value: REAL_OFFSET + tf.tanh(value)) if bounded else activation
        reach = IMAGINARY_RANGE if bounded else math.pi
        return self._decoded(weights, "amp", code, first), self._decoded(
            weights, "phase", code, lambda value: reach * tf.tanh(value)
        )

    def _encoded(self, weights: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
        x = _conv_pair(weights, name, x)
        if self.structure.block_attention:
            x = _spatial_gate(weights, f"{name}.attention.SpatialGate", _channel_gate(weights, name, x))
        return tf.nn.max_pool2d(x, 2, 2, "VALID")

    def _decoded(self, weights: Weights, head: str, code: tf.Tensor, activation: Activation) -> tf.Tensor:
        """Decode the bottleneck to one head's output (B, N, N, 1): the centre, and the ring around it."""
        start, x = _HEADS[head], code
        for block in range(len(self.structure.decoder_channels) - 1):
            x = repeated(_conv_pair(weights, f"{start}.blocks.{block}", x))
        outer, margin = self.structure.outer_channels, [self.structure.size // 4] * 2
        frame = [[0, 0], margin, margin, [0, 0]]
        centre = tf.pad(activation(conv(weights, f"{start}.{head}.conv1", x[..., :-outer])), frame)
        if not self.structure.ring:
            return centre
        upper = repeated(_conv_pair(weights, f"{start}.{head}.conv_up_block", x[..., -outer:]))
        ring = tf.nn.silu(conv(weights, f"{start}.{head}.conv2", upper))
        half = self.structure.size // 2
        hole = tf.pad(tf.ones([1, half, half, 1], ring.dtype), frame)
        return centre + ring * (1.0 - hole)


def cnn_weights(structure: CnnStructure) -> dict[str, Weight]:
    """Give the weights of a structure; they start so that signals keep their size and the object is transparent."""
    made: dict[str, Weight] = {}
    for block, (inputs, outputs) in enumerate(itertools.pairwise(structure.encoder_channels)):
        name = f"autoencoder.encoder.blocks.{block}"
        made |= _pair_weights(name, inputs, outputs)
        if structure.block_attention:
            made |= _gate_weights(f"{name}.attention", outputs)
    bounded = structure.combination == "real_imag"
    centre = math.atanh(1.0 - REAL_OFFSET) if bounded else INVERSE_OF_ONE[structure.activation]
    made |= _decoder_weights(structure, "amp", structure.amplitude_channels, (centre, INVERSE_OF_ONE["silu"]))
    return made | _decoder_weights(structure, "phase", structure.channels, (0.0, 0.0))


def _decoder_weights(
    structure: CnnStructure, head: str, outputs: int, starts: tuple[float, float]
) -> dict[str, Weight]:
    start = _HEADS[head]
    made: dict[str, Weight] = {}
    for block, (inputs, wider) in enumerate(itertools.pairwise(structure.decoder_channels)):
        made |= _pair_weights(f"{start}.blocks.{block}", inputs, wider)
    last, outer, width = structure.decoder_channels[-1], structure.outer_channels, structure.outer_width
    layers = [("conv1", last - outer, starts[0])]
    if structure.ring:
        made |= _pair_weights(f"{start}.{head}.conv_up_block", outer, width)
        layers.append(("conv2", width, starts[1]))
    for layer, inputs, value in layers:
        name = f"{start}.{head}.{layer}"
        made |= {f"{name}.weight": Weight((outputs, inputs, 3, 3), 0.0), f"{name}.bias": Weight((outputs,), value)}
    return made


def _pair_weights(name: str, inputs: int, outputs: int) -> dict[str, Weight]:
    first = convolution(f"{name}.conv1", inputs, outputs, start="kaiming")
    return first | convolution(f"{name}.conv2", outputs, outputs, start="kaiming")


def _gate_weights(name: str, channels: int) -> dict[str, Weight]:
    hidden = channels // REDUCTION
    return {
        f"{name}.ChannelGate.mlp.1.weight": Weight((hidden, channels), "positive", channels),
        f"{name}.ChannelGate.mlp.1.bias": Weight((hidden,), "uniform", channels),
        f"{name}.ChannelGate.mlp.3.weight": Weight((channels, hidden), "uniform", hidden),
        f"{name}.ChannelGate.mlp.3.bias": Weight((channels,), "uniform", hidden),
        f"{name}.SpatialGate.compress.weight": Weight(
            (1, 2, ATTENTION_PX, ATTENTION_PX), "uniform", 2 * ATTENTION_PX**2
        ),
    }


def _conv_pair(weights: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(conv(weights, f"{name}.conv2", tf.nn.relu(conv(weights, f"{name}.conv1", x))))


def _channel_gate(weights: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    """Weigh channels by their mean and their maximum."""
    start = f"{name}.attention.ChannelGate.mlp"

    def mixed(summary: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(summary @ weights[f"{start}.1.weight"] + weights[f"{start}.1.bias"])
        return hidden @ weights[f"{start}.3.weight"] + weights[f"{start}.3.bias"]

    gate = tf.sigmoid(mixed(tf.reduce_mean(x, axis=(1, 2))) + mixed(tf.reduce_max(x, axis=(1, 2))))
    return x * gate[:, None, None, :]


def _spatial_gate(weights: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    """Weigh pixels by the maximum and the mean of their channels."""
    summary = tf.stack([tf.reduce_max(x, axis=-1), tf.reduce_mean(x, axis=-1)], axis=-1)
    return x * tf.sigmoid(conv(weights, f"{name}.compress", summary))


def _energy_factor(patches: tf.Tensor, amplitude: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Factor (B, C, 1, 1) that lets as much light through a patch as its pattern holds."""
    light = tf.reduce_sum(light_of(exit_waves(patches, probes)), axis=(-2, -1), keepdims=True)
    counts = tf.reduce_sum(tf.square(amplitude), axis=(-2, -1), keepdims=True)
    return tf.sqrt(counts / tf.maximum(light, _TINY))
