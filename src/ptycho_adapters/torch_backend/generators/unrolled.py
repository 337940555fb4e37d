"""Unrolled data consistency on the canvas: move towards the data, correct with a network, again.

A single pattern does not determine its patch; overlapping ones do. So the generator does what an iterative solver does,
a few times and with learned corrections: (1) the change that each pattern asks for (`Asking`), summed on the
canvas of all patterns; (2) a U-Net *on the canvas*, which sees the object, that change, the light, and what the step
before left for it. The network sees each object pixel once, however often the scan has lit it: at ten-fold overlap it
costs a tenth of a network on patches, and neighbouring patterns agree by construction.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import torch
from torch import nn

from ptycho_adapters.torch_backend.generators.base import Generator, View, run_steps
from ptycho_adapters.torch_backend.generators.canvas_unet import REACH_PX, CanvasUNet, without_checkerboard
from ptycho_adapters.torch_backend.generators.registry import register_generator
from ptycho_adapters.torch_backend.generators.tiles import in_tiles
from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.optics import detector_order, light_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ptycho_adapters.torch_backend.generators.base import Draft, Step
    from ptycho_adapters.torch_backend.generators.tiles import Images
    from ptycho_core.config import DataConfig, TorchModelConfig

_MEMORY = 4
_FEATURES = 6 + _MEMORY
_REACH_PX = REACH_PX + 8  # network and filter; a multiple of what the network halves
LARGEST_AT_ONCE_PX, TILE_PX = 1024**2, 768  # a canvas beyond the first is treated in tiles of the second
_WIDTHS_PER_SCALE = (16, 24, 32)
_FIRST_STEP_LENGTH = 1.0
_LARGEST_CORRECTION = 2.0
_DARK_SHARE = 0.05  # of the brightest canvas pixel, added to the divisor: keeps the rim from exploding
_LOG_LIGHT_UNIT, _LOG_LIGHT_MIDDLE = 8.0, 0.5  # bring log light, 1 to 1e6 photons per pixel, to order one


class Refinement(nn.Module):
    """One unrolled step: object + length * change asked for + network.

    Args:
        widths: channels of the network's three levels.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = CanvasUNet(_FEATURES, 2 + _MEMORY, widths)
        self.length = nn.Parameter(torch.tensor(_FIRST_STEP_LENGTH))

    def contribution(self, view: View, patches: Tensor) -> Tensor:
        """Give the change that each pattern asks for, times the light on it, (B, C, N, N)."""
        with part("fields"):
            return view.asking.change(patches)

    @part("network")
    def combine(self, total: Tensor, draft: Draft) -> Draft:
        """Correct the object (B, H, W) by the change asked for and by the network; a large canvas tile by tile."""
        brightest = draft.weight.amax(dim=(-2, -1), keepdim=True)
        work = partial(self._corrected, brightest=brightest)
        images = (total, draft.object, draft.weight, draft.memory)
        if torch.is_grad_enabled() or total.shape[-2] * total.shape[-1] <= LARGEST_AT_ONCE_PX:
            object_, memory = work(images)
        else:
            object_, memory = in_tiles(work, images, tile=TILE_PX, reach=_REACH_PX)
        return attrs.evolve(draft, object=object_, memory=memory)

    def _corrected(self, images: Images, *, brightest: Tensor) -> tuple[Tensor, Tensor]:
        """Map sum of asked changes, object, light and memory of a piece of canvas to its next object and memory."""
        total, object_, weight, memory = images
        change = total / (weight + _DARK_SHARE * brightest)
        light = torch.log1p(weight) / _LOG_LIGHT_UNIT - _LOG_LIGHT_MIDDLE
        features = [object_.real - 1.0, object_.imag, change.real, change.imag, light, weight / brightest]
        out = self.network(torch.cat([torch.stack(features, dim=1), memory], dim=1))
        with torch.autocast(out.device.type, enabled=False):
            smooth = _LARGEST_CORRECTION * without_checkerboard(out[:, :2])
        correction = torch.complex(smooth[:, 0], smooth[:, 1])
        return object_ + self.length * change + correction, out[:, 2:]


class Unrolled(Generator):
    """A few refinement steps with weights of their own; the later half of them is gone through again.

    Args:
        widths: channels of the three levels of each network.
        steps: number of steps with weights of their own.
        repeats: how often the later half is repeated; it may be changed at any time.
    """

    memory_channels = _MEMORY
    patchwise = False
    at_once_px: int | None = LARGEST_AT_ONCE_PX

    def __init__(self, widths: tuple[int, int, int], steps: int, repeats: int) -> None:
        super().__init__()
        self.repeats = repeats
        self.refinements = nn.ModuleList(Refinement(widths) for _ in range(steps))

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes (B, C, N, N) to patches (B, C, N, N), each on a canvas of its own."""
        size = amplitude.shape[-1]
        alone = probes.flatten(0, 1).unsqueeze(1)
        light = light_of(alone)
        view = View(
            amplitude=detector_order(amplitude).flatten(0, 1).unsqueeze(1),
            probes=alone,
            weight=light,
            where=torch.arange(size * size, device=amplitude.device).expand(len(alone), 1, -1),
            good_pixels=None,
        )
        drafts = [draft.object for draft, _ in run_steps(self, lambda: (view,), light[:, 0])]
        return drafts[-1].reshape(amplitude.shape)

    def steps(self) -> Sequence[Step]:
        """Give the refinement steps in the order in which they are run."""
        own = tuple(module for module in self.refinements if isinstance(module, Refinement))
        return own + self.repeats * own[len(own) // 2 :]


@register_generator("unrolled")
def build(model: TorchModelConfig, data: DataConfig) -> Unrolled:
    """Build `unrolled_steps` steps of equal width, which follows `n_filters_scale`."""
    del data
    high, middle, low = (model.n_filters_scale * width for width in _WIDTHS_PER_SCALE)
    return Unrolled((high, middle, low), model.unrolled_steps, model.unrolled_repeats)
