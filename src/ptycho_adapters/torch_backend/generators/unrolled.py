"""Unrolled data consistency: each step moves towards the data, corrects with a network, and agrees with its neighbours.

A single pattern does not determine its patch; overlapping ones do. So the generator alternates what an iterative solver
alternates, but few times and with learned corrections: (1) the change that the pattern asks for (`data_correction`),
(2) a U-Net that sees the present patch and that change, (3) the average of overlapping patches, done by the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ptycho_adapters.torch_backend.generators.base import Generator, register_generator
from ptycho_adapters.torch_backend.generators.unet import UNet, level_widths, log_counts, relative_light
from ptycho_adapters.torch_backend.optics import data_correction, detector_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ptycho_adapters.torch_backend.generators.base import Step
    from ptycho_core.config import DataConfig, TorchModelConfig

_FEATURES = 6
_FIRST_STEP_LENGTH = 0.5


class Refinement(nn.Module):
    """One unrolled step: patches + length * data change + network.

    Args:
        widths: channels of the network's three levels.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = UNet(_FEATURES, 2, widths)
        self.length = nn.Parameter(torch.tensor(_FIRST_STEP_LENGTH))

    def forward(self, amplitude: Tensor, probes: Tensor, patches: Tensor) -> Tensor:
        """Refine patches (B, C, N, N), given amplitudes (B, C, N, N) and probes (B, C, modes, N, N)."""
        groups, members = amplitude.shape[:2]
        with torch.autocast(amplitude.device.type, enabled=False):
            change = data_correction(detector_order(amplitude), probes, patches)
            features = torch.stack(
                [
                    log_counts(amplitude),
                    relative_light(probes),
                    patches.real - 1.0,
                    patches.imag,
                    change.real,
                    change.imag,
                ],
                dim=2,
            ).flatten(0, 1)
        correction: Tensor = self.network(features.contiguous(memory_format=torch.channels_last))
        parts = correction.to(torch.float32).unflatten(0, (groups, members))
        return patches + self.length * change + torch.complex(parts[:, :, 0], parts[:, :, 1])


class Unrolled(Generator):
    """A few refinement steps with weights of their own.

    Args:
        widths: channels of the three levels of each network.
        steps: number of steps.
    """

    def __init__(self, widths: tuple[int, int, int], steps: int) -> None:
        super().__init__()
        self.refinements = nn.ModuleList(Refinement(widths) for _ in range(steps))

    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes (B, C, N, N) to patches (B, C, N, N) without any average in between."""
        patches = torch.ones_like(amplitude, dtype=probes.dtype)
        for step in self.steps():
            patches = step(amplitude, probes, patches)
        return patches

    def steps(self) -> Sequence[Step]:
        """Give the refinement steps."""
        return tuple(self.refinements)


@register_generator("unrolled")
def build(model: TorchModelConfig, data: DataConfig) -> Unrolled:
    """Build `unrolled_steps` steps of equal width; the width follows `n_filters_scale`."""
    del data
    return Unrolled(level_widths(model.n_filters_scale), model.unrolled_steps)
