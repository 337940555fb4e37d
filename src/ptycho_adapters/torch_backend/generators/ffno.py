"""A probe-conditioned factorised Fourier neural operator (Tran, Mathews, Xie and Ong, ICLR 2023).

Far-field inversion is not local, so a layer that mixes a whole row or column at once, one axis at a time, sees in one
step what stacked small convolutions need many for. It keeps the low frequencies of each axis; small convolutions at
the end bring back the fine detail. Input is the back-projection through the probe, as for the U-Net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from ptycho_adapters.torch_backend.generators.base import Generator
from ptycho_adapters.torch_backend.generators.registry import register_generator
from ptycho_adapters.torch_backend.generators.unet import log_counts, relative_light
from ptycho_adapters.torch_backend.physics.optics import back_project, detector_order

if TYPE_CHECKING:
    from torch import Tensor

    from ptycho_core.config import DataConfig, TorchModelConfig

_FEATURES = 4
_BLOCK_PX = 2  # pixels of a side that are taken together
_MIXER_FACTOR = 2
_FIRST_GATE = 0.1  # a deep stack starts close to the identity
_CHANNELS_PER_NORM = 8


class AxisMixer(nn.Module):
    """Linear map of the lowest Fourier modes along one axis; all other frequencies are dropped.

    Args:
        channels: channels in and out.
        modes: frequencies kept, from zero up; fewer where the axis has fewer.
    """

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        spread = (2.0 / channels) ** 0.5 / 2.0
        self.weight = nn.Parameter(spread * torch.randn(modes, channels, channels, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, h, channels, n) along its last axis."""
        length = x.shape[-1]
        spectrum = torch.fft.rfft(x, norm="ortho")
        kept = min(len(self.weight), spectrum.shape[-1])
        weight = torch.view_as_complex(self.weight[:kept])
        mixed = torch.einsum("bhim,mio->bhom", spectrum[..., :kept], weight)
        whole: Tensor = torch.fft.irfft(mixed, n=length, norm="ortho")
        return whole


class SpectralMixer(nn.Module):
    """Sum of one mixer per axis."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.rows = AxisMixer(channels, modes)
        self.columns = AxisMixer(channels, modes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to the same shape, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            along_rows = self.rows(values.transpose(1, 2)).transpose(1, 2)
            along_columns = self.columns(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        total: Tensor = along_rows + along_columns
        return total


class _Block(nn.Module):
    """Residual of a spectral mixer, shared by all blocks, and a two-layer channel mixer of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.widen = nn.Conv2d(channels, _MIXER_FACTOR * channels, 1)
        self.narrow = nn.Conv2d(_MIXER_FACTOR * channels, channels, 1)
        self.gate = nn.Parameter(torch.tensor(_FIRST_GATE))

    def forward(self, x: Tensor, mixer: SpectralMixer) -> Tensor:
        """Refine (B, channels, h, w)."""
        mixed: Tensor = self.narrow(functional.gelu(self.widen(self.norm(mixer(x)))))
        return x + self.gate * mixed


class _Refiner(nn.Module):
    """Residual of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine (B, channels, h, w)."""
        refined: Tensor = x + self.layers(x)
        return refined


class FactorisedFourierOperator(Generator):
    """Back-projection, then a factorised Fourier operator that predicts the object minus one, each pattern on its own.

    Args:
        channels: width of the operator, a multiple of 8.
        modes: Fourier modes kept per axis.
        blocks: spectral blocks; they share their spectral weights.
        refiners: convolution blocks behind them.
    """

    def __init__(self, channels: int, *, modes: int, blocks: int, refiners: int) -> None:
        super().__init__()
        self.lift = nn.Conv2d(_BLOCK_PX**2 * _FEATURES, channels, 3, padding=1)
        self.mixer = SpectralMixer(channels, modes)
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(blocks))
        self.refiners = nn.Sequential(*(_Refiner(channels) for _ in range(refiners)))
        self.last = nn.Conv2d(channels, _BLOCK_PX**2 * 2, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes (B, C, N, N) and probes (B, C, modes, N, N) to object patches (B, C, N, N)."""
        groups, members = amplitude.shape[:2]
        pixels = functional.pixel_unshuffle(_features(amplitude, probes).flatten(0, 1), _BLOCK_PX)
        x: Tensor = self.lift(pixels)
        for block in self.blocks:
            x = block(x, self.mixer)
        correction = functional.pixel_shuffle(self.last(functional.gelu(self.refiners(x))), _BLOCK_PX)
        parts = correction.to(torch.float32).unflatten(0, (groups, members))
        return torch.complex(1.0 + parts[:, :, 0], parts[:, :, 1])


@torch.no_grad()
def _features(amplitude: Tensor, probes: Tensor) -> Tensor:
    """Give log counts, illumination and back-projection, (B, C, 4, N, N) float32 of order one."""
    first = back_project(detector_order(amplitude), probes)
    return torch.stack([log_counts(amplitude), relative_light(probes), first.real, first.imag], dim=2)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // _CHANNELS_PER_NORM), channels)


@register_generator("ffno")
def build(model: TorchModelConfig, data: DataConfig) -> FactorisedFourierOperator:
    """Build the operator; its size does not depend on N."""
    del data
    channels = model.fno_width * model.n_filters_scale
    return FactorisedFourierOperator(
        channels, modes=model.fno_modes, blocks=model.fno_blocks, refiners=model.fno_cnn_blocks
    )
