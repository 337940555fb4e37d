"""A probe-conditioned U-Net.

The unknown far-field phase is first taken from the probe (`back_project`), so the inversion becomes a local correction
in object space, which convolutions can make, and the probe is divided out, so that no weight is tied to one beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from ptycho_adapters.torch_backend.generators.base import Generator
from ptycho_adapters.torch_backend.generators.registry import register_generator
from ptycho_adapters.torch_backend.physics.optics import back_project, detector_order

if TYPE_CHECKING:
    from torch import Tensor

    from ptycho_core.config import DataConfig, TorchModelConfig

_CHANNELS_PER_SCALE = 16
_LEVEL_FACTORS = (1.0, 1.5, 2.0)
_NORM_GROUP = 8
_FEATURES = 4
_LOG_COUNTS_UNIT = 10.0  # log1p of 2e4 photons: brings log counts to order one


class _Block(nn.Sequential):
    """Two 3x3 convolutions, each with group normalisation and SiLU."""

    def __init__(self, channels: int) -> None:
        groups = channels // _NORM_GROUP
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
        )


class _Join(nn.Module):
    """Upsample, concatenate the skip connection, reduce."""

    def __init__(self, below: int, skip: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(below + skip, skip, 1)
        self.block = _Block(skip)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Map (B, below, h, w) and (B, skip, 2h, 2w) to (B, skip, 2h, 2w)."""
        joined: Tensor = self.block(self.reduce(torch.cat([functional.interpolate(below, scale_factor=2.0), skip], 1)))
        return joined


class UNet(nn.Module):
    """Three-level U-Net on blocks of 2x2 pixels; the last layer starts at zero.

    Args:
        features: input channels.
        outputs: output channels.
        widths: channels of the three levels, multiples of 8.
    """

    def __init__(self, features: int, outputs: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        high, middle, low = widths
        self.stem = nn.Conv2d(4 * features, high, 3, padding=1)
        self.encode_high = _Block(high)
        self.down_middle = nn.Conv2d(high, middle, 2, stride=2)
        self.encode_middle = _Block(middle)
        self.down_low = nn.Conv2d(middle, low, 2, stride=2)
        self.encode_low = _Block(low)
        self.join_middle = _Join(low, middle)
        self.join_high = _Join(middle, high)
        self.last = nn.Conv2d(high, 4 * outputs, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, features, N, N) to (B, outputs, N, N); N is a multiple of 8."""
        blocks = functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        high = self.encode_high(functional.silu(self.stem(blocks)))
        middle = self.encode_middle(self.down_middle(high))
        low = self.encode_low(self.down_low(middle))
        high = self.join_high(self.join_middle(low, middle), high)
        out: Tensor = functional.pixel_shuffle(self.last(high), 2)
        return out


class ProbeConditionedUNet(Generator):
    """Back-projection, then a U-Net that predicts the object minus one, each pattern on its own.

    Args:
        widths: channels of the three levels.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = UNet(_FEATURES, 2, widths)

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes (B, C, N, N) and probes (B, C, modes, N, N) to object patches (B, C, N, N)."""
        groups, members = amplitude.shape[:2]
        features = _features(amplitude, probes).flatten(0, 1)
        correction: Tensor = self.network(features.contiguous(memory_format=torch.channels_last))
        parts = correction.to(torch.float32).unflatten(0, (groups, members))
        return torch.complex(1.0 + parts[:, :, 0], parts[:, :, 1])


@torch.no_grad()
def _features(amplitude: Tensor, probes: Tensor) -> Tensor:
    """Give log counts, illumination and back-projection, (B, C, 4, N, N) float32 of order one."""
    first = back_project(detector_order(amplitude), probes)
    return torch.stack([log_counts(amplitude), relative_light(probes), first.real, first.imag], dim=2)


def log_counts(amplitude: Tensor) -> Tensor:
    """Logarithm of counts, of order one."""
    return torch.log1p(amplitude.square()) / _LOG_COUNTS_UNIT


def relative_light(probes: Tensor) -> Tensor:
    """Probe intensity (B, C, N, N) over its peak."""
    light = (probes.real.square() + probes.imag.square()).sum(dim=2)
    return light / light.amax(dim=(-2, -1), keepdim=True)


def level_widths(scale: int) -> tuple[int, int, int]:
    """Channels of the three levels for a given `n_filters_scale`, multiples of 8."""
    base = _CHANNELS_PER_SCALE * scale
    high, middle, low = (int(base * factor) // _NORM_GROUP * _NORM_GROUP for factor in _LEVEL_FACTORS)
    return high, middle, low


@register_generator("unet")
def build(model: TorchModelConfig, data: DataConfig) -> ProbeConditionedUNet:
    """Build the U-Net; its width follows `n_filters_scale`, its size does not depend on N."""
    del data
    return ProbeConditionedUNet(level_widths(model.n_filters_scale))
