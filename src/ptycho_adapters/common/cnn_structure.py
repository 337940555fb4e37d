"""The autoencoder of the legacy project as its structure: what its weights depend on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from ptycho_core.config import DataConfig, TorchModelConfig

Activation = Literal["silu", "sigmoid", "softplus", "relu"]
Combination = Literal["polar", "cartesian", "real_imag"]

REDUCTION = 16  # of the attention's hidden layer
ATTENTION_PX = 7
REAL_OFFSET, IMAGINARY_RANGE = 0.2, 1.2
# What each activation needs to give 1, or nearly so where it cannot: the network starts from a transparent object.
INVERSE_OF_ONE: dict[Activation, float] = {
    "silu": 1.2784645,
    "sigmoid": 4.0,
    "softplus": math.log(math.e - 1.0),
    "relu": 1.0,
}
_DEEPEST = 128  # channels of the encoder's last block, before scaling
_LAST = 32  # channels of the decoders' last block, before scaling
_BOTTLENECK_PX = 8


@attrs.frozen(kw_only=True)
class CnnStructure:
    """What the weights of the autoencoder depend on, and what its outputs mean.

    Attributes:
        size: side of a pattern, 64, 128 or 256 px.
        channels: patterns seen together, and patches given; 1 takes each pattern on its own.
        filters_scale: factor on the number of channels.
        block_attention: channel and spatial attention (Woo et al., ECCV 2018) after each encoder block.
        amplitude_channels: channels of the amplitude head: `channels`, or 1 that all patches share.
        ring: whether patches have one; without it they are their centre, in zeros.
        outer_channels: decoder channels given to the ring of the patch, or to nothing.
        outer_width: channels of the ring's convolutions.
        activation: of the amplitude in the centre of the patch; the ring has SiLU in both heads.
        combination: what the heads mean. `polar`: amplitude and phase; `cartesian`: the same numbers taken as real and
            imaginary part; `real_imag`: bounded real part in (-0.8, 1.2) and imaginary part in (-1.2, 1.2).
        input_rms: root mean square of a pattern's amplitude, as the network sees it, under a transparent object.
        object_scale: factor on what the heads mean that makes a transparent object 1; None takes for each patch the one
            that lets it pass on as much light as its pattern holds.
    """

    size: int
    channels: int = 1
    filters_scale: int = 2
    block_attention: bool = True
    amplitude_channels: int = 1
    outer_channels: int = 1
    outer_width: int = 64
    activation: Activation = "silu"
    combination: Combination = "polar"
    input_rms: float = 0.5
    object_scale: float | None = 1.0
    ring: bool = True

    @property
    def encoder_channels(self) -> tuple[int, ...]:
        """Channels into the encoder and out of each of its blocks."""
        depth = self._depth
        return (self.channels, *(self.filters_scale * _DEEPEST // 2 ** (depth - 1 - i) for i in range(depth)))

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """Channels into each decoder and out of each of its blocks."""
        widest = _LAST * 2 ** (self._depth - 2)
        blocks = (widest // 2**i for i in range(self._depth - 1))
        return (self.filters_scale * _DEEPEST, *(self.filters_scale * width for width in blocks))

    @property
    def _depth(self) -> int:
        return round(math.log2(self.size // _BOTTLENECK_PX))


def structure_of(model: TorchModelConfig, data: DataConfig) -> CnnStructure:
    """Structure that a configuration asks for: every pattern on its own, as a reconstruction shows them."""
    return CnnStructure(
        size=data.N,
        filters_scale=model.n_filters_scale,
        block_attention=model.cbam_encoder,
        outer_width=_LAST * model.n_filters_scale,
        activation=model.amp_activation,
        combination="real_imag" if model.cnn_output_mode == "real_imag" else "polar",
    )
