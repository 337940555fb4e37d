"""A U-Net for canvases of any size: convolutions only, so a part of a canvas is treated as the whole would be."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_BLOCK = 2  # edge of the pixel blocks that become channels
_SMOOTH_TAPS = (-1 / 16, 4 / 16, 10 / 16, 4 / 16, -1 / 16)
_MULTIPLE = 8  # sizes that three levels on blocks can halve
REACH_PX = 80  # no output pixel sees farther


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, which it is at first.

    No normalisation over space: its statistics would differ between a small canvas in training and a whole scan.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _start_at_zero(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to the same shape."""
        added: Tensor = self.second(_silu(self.first(x)))
        return added.add_(x)


class _OnBlocks(nn.Conv2d):
    """A 3x3 convolution on blocks of 2x2 pixels as channels, worked out as a strided 6x6 one on the pixels.

    The sums are the same, and no blocks need to be gathered.

    Args:
        features: channels of the image.
        outputs: channels on blocks.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(_BLOCK**2 * features, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, features, H, W) to (B, outputs, H / 2, W / 2)."""
        outputs, edge = self.out_channels, 3 * _BLOCK
        blocks = self.weight.view(outputs, -1, _BLOCK, _BLOCK, 3, 3)
        kernel = blocks.permute(0, 1, 4, 2, 5, 3).reshape(outputs, -1, edge, edge)
        return functional.conv2d(x, kernel, self.bias, stride=_BLOCK, padding=_BLOCK)


class CanvasUNet(nn.Module):
    """Three levels on blocks of 2x2 pixels; the last layer starts at zero.

    Args:
        features: input channels.
        outputs: output channels.
        widths: channels of the three levels.
    """

    def __init__(self, features: int, outputs: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        high, middle, low = widths
        self.stem = _OnBlocks(features, high)
        self.encode_high = _Residual(high)
        self.down_middle = nn.Conv2d(high, middle, 2, stride=2)
        self.encode_middle = _Residual(middle)
        self.down_low = nn.Conv2d(middle, low, 2, stride=2)
        self.low = nn.Sequential(_Residual(low), _Residual(low))
        self.up_middle = nn.Conv2d(low, middle, 1)
        self.decode_middle = _Residual(middle)
        self.up_high = nn.Conv2d(middle, high, 1)
        self.decode_high = _Residual(high)
        self.last = nn.Conv2d(high, _BLOCK**2 * outputs, 3, padding=1)
        _start_at_zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, features, H, W) float32 to (B, outputs, H, W) float32 in [-1, 1]."""
        height, width = x.shape[-2:]
        whole = functional.pad(_in_network_precision(x), (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
        high = self.encode_high(_silu(self.stem(whole.contiguous(memory_format=torch.channels_last))))
        middle = self.encode_middle(self.down_middle(high))
        low = self.low(self.down_low(middle))
        middle = self.decode_middle(_doubled(self.up_middle(low)).add_(middle))
        high = self.decode_high(_doubled(self.up_high(middle)).add_(high))
        # Bounded, so that no step can run away, whatever it is shown.
        out: Tensor = functional.pixel_shuffle(self.last(high).tanh_(), _BLOCK)
        return out[..., :height, :width].to(torch.float32)


def _in_network_precision(x: Tensor) -> Tensor:
    """Cast before pixels are moved about, where the network's precision is a reduced one: half the bytes to move."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def without_checkerboard(x: Tensor) -> Tensor:
    """Take the finest waves out of images (B, K, H, W), which pixel blocks tend to leave behind.

    Along each axis the filter (-1, 4, 10, 4, -1) / 16 passes 1 at frequency 0 and, flat to third order, still 3/4 at
    half the Nyquist frequency, and nothing at the Nyquist frequency.
    """
    taps = torch.stack([x.new_full((), tap) for tap in _SMOOTH_TAPS])  # made on the device: nothing waits for a copy
    kernel = (taps[:, None] * taps)[None, None].expand(x.shape[1], 1, -1, -1)
    reach = len(_SMOOTH_TAPS) // 2
    return functional.conv2d(functional.pad(x, (reach,) * 4, mode="replicate"), kernel, groups=x.shape[1])


def _silu(made: Tensor) -> Tensor:
    """Activate what nobody else reads, in place unless a gradient wants it: half the memory to touch."""
    return functional.silu(made, inplace=not made.requires_grad)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _start_at_zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
