"""The two-decoder autoencoder of the legacy project, specified by its structure, so that its weights fit.

An encoder without skip connections feeds one decoder for the amplitude and one for the phase. Each decoder ends in a
head of two parts: the centre of the patch from most of the channels, and the ring around it, at half the resolution,
from the remaining ones. Names of parameters are those of the legacy state dicts, which begin with one more `model.`.
The network does not look at the probe; only the flux, which the probe carries, sets the scale of its input.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from ptycho_adapters.common.cnn_structure import (
    ATTENTION_PX,
    IMAGINARY_RANGE,
    INVERSE_OF_ONE,
    REAL_OFFSET,
    REDUCTION,
    structure_of,
)
from ptycho_adapters.torch_backend.generators.base import Generator
from ptycho_adapters.torch_backend.generators.registry import register_generator
from ptycho_adapters.torch_backend.physics.optics import exit_waves, light_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ptycho_adapters.common.cnn_structure import Activation, CnnStructure
    from ptycho_core.config import DataConfig, TorchModelConfig

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "relu": functional.relu,
}


class _ConvPair(nn.Module):
    """Two 3x3 convolutions, each followed by a ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        return functional.relu(self.conv2(functional.relu(self.conv1(x))))


class _ChannelGate(nn.Module):
    """Weigh channels by their mean and their maximum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        first = nn.Linear(channels, hidden)
        # What comes in has passed a ReLU: a unit of negative weights would never fire, nor ever learn to.
        first.weight.data.abs_()
        self.mlp = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Weigh (B, C, h, w)."""
        gate = torch.sigmoid(self.mlp(x.mean(dim=(-2, -1))) + self.mlp(x.amax(dim=(-2, -1))))
        return x * gate[..., None, None]


class _SpatialGate(nn.Module):
    """Weigh pixels by the maximum and the mean of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.compress = nn.Conv2d(2, 1, ATTENTION_PX, padding=ATTENTION_PX // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh (B, C, h, w)."""
        summary = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)
        return x * torch.sigmoid(self.compress(summary))


class _EncoderBlock(_ConvPair):
    """Two convolutions, attention where asked for, half the resolution."""

    def __init__(self, inputs: int, outputs: int, *, attention: bool) -> None:
        super().__init__(inputs, outputs)
        gates = {"ChannelGate": _ChannelGate(outputs), "SpatialGate": _SpatialGate()} if attention else {}
        self.attention = nn.ModuleDict(gates)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h/2, w/2)."""
        x = super().forward(x)
        for gate in self.attention.values():
            x = gate(x)
        return functional.max_pool2d(x, 2)


class _DecoderBlock(_ConvPair):
    """Two convolutions, then twice the resolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, 2h, 2w)."""
        return functional.interpolate(super().forward(x), scale_factor=2.0)


class _Head(nn.Module):
    """Centre of the patch from most channels, the ring around it from the last `outer` ones."""

    def __init__(self, structure: CnnStructure, outputs: int) -> None:
        super().__init__()
        last, self._outer = structure.decoder_channels[-1], structure.outer_channels
        self.conv1 = nn.Conv2d(last - self._outer, outputs, 3, padding=1)
        self._ring = structure.ring
        if structure.ring:
            self.conv_up_block = _DecoderBlock(self._outer, structure.outer_width)
            self.conv2 = nn.Conv2d(structure.outer_width, outputs, 3, padding=1)

    def start_at(self, centre: float, ring: float) -> None:
        """Let both parts give a constant, before activation, until they are trained."""
        parts = [(self.conv1, centre), (self.conv2, ring)] if self._ring else [(self.conv1, centre)]
        for layer, value in parts:
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, value) if layer.bias is not None else None

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Map decoder output (B, last, N/2, N/2) to (B, outputs, N, N)."""
        quarter = x.shape[-1] // 2
        margin = (quarter,) * 4
        centre = functional.pad(activation(self.conv1(x[:, : -self._outer])), margin)
        if not self._ring:
            return centre
        ring = functional.silu(self.conv2(self.conv_up_block(x[:, -self._outer :])))
        hole = torch.ones_like(ring[..., quarter:-quarter, quarter:-quarter])
        return centre + ring * (1.0 - functional.pad(hole, margin))


class _Decoder(nn.Module):
    """Decoder blocks and a head under the name that the legacy weights give it."""

    def __init__(self, structure: CnnStructure, head: str, outputs: int) -> None:
        super().__init__()
        self.blocks = _chain(_DecoderBlock, structure.decoder_channels)
        self.head_name = head
        self.add_module(head, _Head(structure, outputs))

    @property
    def head(self) -> _Head:
        """The head."""
        found = self.get_submodule(self.head_name)
        if not isinstance(found, _Head):
            raise TypeError(f"{self.head_name}: expected a head, found {type(found).__name__}")
        return found

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Map the bottleneck to one head's output (B, outputs, N, N)."""
        decoded: Tensor = self.head(self.blocks(x), activation)
        return decoded


class Autoencoder(nn.Module):
    """Encoder and two decoders."""

    def __init__(self, structure: CnnStructure) -> None:
        super().__init__()
        self._combination = structure.combination
        self._activation = _ACTIVATIONS[structure.activation]
        self.encoder = nn.Module()
        self.encoder.blocks = _chain(
            lambda inputs, outputs: _EncoderBlock(inputs, outputs, attention=structure.block_attention),
            structure.encoder_channels,
        )
        self.decoder_amp = _Decoder(structure, "amp", structure.amplitude_channels)
        self.decoder_phase = _Decoder(structure, "phase", structure.channels)

    def start_transparent(self, structure: CnnStructure) -> None:
        """Choose first weights: signals keep their size, and the object is 1, or nearly where none can reach it."""
        # Torch's own choice shrinks what passes a ReLU; a dozen layers on, the patterns would hardly matter.
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        bounded = structure.combination == "real_imag"
        centre = math.atanh(1.0 - REAL_OFFSET) if bounded else INVERSE_OF_ONE[structure.activation]
        self.decoder_amp.head.start_at(centre, INVERSE_OF_ONE["silu"])
        self.decoder_phase.head.start_at(0.0, 0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map amplitudes (B, channels, N, N) to both heads' output, the first with one channel or all, as asked for."""
        code = self.encoder.get_submodule("blocks")(x)
        if self._combination == "real_imag":
            real = self.decoder_amp(code, lambda value: REAL_OFFSET + torch.tanh(value))
            return real, self.decoder_phase(code, lambda value: IMAGINARY_RANGE * torch.tanh(value))
        return self.decoder_amp(code, self._activation), self.decoder_phase(
            code, lambda value: math.pi * torch.tanh(value)
        )


class LegacyCnn(Generator):
    """The autoencoder as a generator.

    Args:
        structure: what its weights depend on.
    """

    def __init__(self, structure: CnnStructure) -> None:
        super().__init__()
        self.structure = structure
        self.together = structure.channels
        self.autoencoder = Autoencoder(structure)
        self.autoencoder.start_transparent(structure)

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes (B, C, N, N) under probes (B, C, modes, N, N) to patches (B, C, N, N).

        Raises:
            ValueError: C is no multiple of the structure's channels.
        """
        groups, members, size, _ = amplitude.shape
        channels = self.structure.channels
        if members % channels:
            raise ValueError(f"expected groups of a multiple of {channels} patterns, found {members}")
        seen = (amplitude * self._gain(probes)).reshape(-1, channels, size, size)
        patches = self.patches(seen).reshape(groups, members, size, size)
        if self.structure.object_scale is None:
            return patches * _energy_factor(patches, amplitude, probes)
        return patches if self.structure.object_scale == 1.0 else patches * self.structure.object_scale

    def patches(self, seen: Tensor) -> Tensor:
        """Patches (B, channels, N, N), in the scale of the heads, of amplitudes as the network sees them."""
        first, second = self.heads(seen.contiguous(memory_format=torch.channels_last))
        first = first.expand_as(second).float()
        second = second.float()
        polar = self.structure.combination == "polar"
        return torch.polar(first, second) if polar else torch.complex(first, second)

    def heads(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """What the two heads make of amplitudes as the network sees them, (B, channels, N, N)."""
        first, second = self.autoencoder(seen)
        return first, second

    def _gain(self, probes: Tensor) -> Tensor:
        """Factor (B, C, 1, 1) on amplitudes that gives a transparent object's pattern the wanted mean square."""
        flux = (probes.real.square() + probes.imag.square()).sum(dim=(-3, -2, -1))
        return (self.structure.input_rms * probes.shape[-1] / flux.sqrt())[..., None, None]


def _energy_factor(patches: Tensor, amplitude: Tensor, probes: Tensor) -> Tensor:
    """Factor (B, C, 1, 1) that lets as much light through a patch as its pattern holds."""
    light = light_of(exit_waves(patches, probes)).sum(dim=(-2, -1), keepdim=True)
    counts = amplitude.square().sum(dim=(-2, -1), keepdim=True)
    return (counts / light.clamp_min(torch.finfo(light.dtype).tiny)).sqrt()


def _chain(block: Callable[[int, int], nn.Module], channels: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(*(block(inputs, outputs) for inputs, outputs in itertools.pairwise(channels)))


@register_generator("cnn")
def build(model: TorchModelConfig, data: DataConfig) -> LegacyCnn:
    """Build the autoencoder for patterns of the configured size."""
    return LegacyCnn(structure_of(model, data))
