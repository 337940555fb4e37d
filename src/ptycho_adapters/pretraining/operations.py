"""How many operations a training takes: what publishes its error against its cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ptycho_adapters.pretraining.simulated_groups import SimulatedGroups

_MULTIPLE = 8  # to which the network on the canvas fills up an edge
_PER_TRANSFORM = 5.0  # operations per point and halving: the usual count of a complex fast Fourier transform

_Result = TypeVar("_Result")


class OperationCounter:
    """Counts the operations of training steps, each number of the network's steps looked into once.

    Convolutions, there and back, as torch counts them: two operations per multiplication and addition, all in
    proportion to the canvas. Fourier transforms of each step of the network: two there and, but for the first step, two
    back. Simulation, optimizers and what works pixel by pixel are not counted.

    Args:
        per_pixel: what another instance has found.

    Attributes:
        per_pixel: operations in convolutions per pixel of canvas, by the number of steps.
    """

    def __init__(self, per_pixel: Mapping[int, float] | None = None) -> None:
        self.per_pixel: dict[int, float] = dict(per_pixel or {})

    def count(
        self, steps: int, groups: SimulatedGroups, learn: Callable[[SimulatedGroups], _Result]
    ) -> tuple[_Result, int]:
        """Run a training step and count it.

        Args:
            steps: that the network goes through.
            groups: what it learns from.
            learn: the training step.
        """
        batch, height, width = groups.target.shape
        pixels = batch * _filled(height) * _filled(width)
        if steps in self.per_pixel:
            made = learn(groups)
        else:
            with FlopCounterMode(display=False) as counter:
                made = learn(groups)
            self.per_pixel[steps] = counter.get_total_flops() / pixels
        points = groups.view.probes.numel()
        transforms = (4 * steps - 2) * _PER_TRANSFORM * points * math.log2(groups.view.probes.shape[-1] ** 2)
        return made, round(self.per_pixel[steps] * pixels + transforms)


def _filled(edge: int) -> int:
    return -(-edge // _MULTIPLE) * _MULTIPLE
