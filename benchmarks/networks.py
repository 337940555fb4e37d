"""The networks of a generator alone: how long their calls take, and what they compute. Imports torch."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import torch
from machine import least_seconds, synchronise
from torch.utils.flop_counter import FlopCounterMode

from ptycho_adapters.torch_backend.execution import network_precision
from ptycho_adapters.torch_backend.generators.canvas_unet import CanvasUNet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.torch_backend import Generator
    from ptycho_core.config.execution import Precision

FORWARD_PASSES_PER_STEP = 3  # one forward, and the two gradients of every convolution


@attrs.frozen(kw_only=True, eq=False)
class Call:
    """One call of a network.

    Attributes:
        network: that was called.
        inputs: it was called with.
        seconds: it took.
    """

    network: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    seconds: float

    def operations(self) -> int:
        """Count the floating point operations of convolutions and matrix products of the call."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.network(*(one.clone() for one in self.inputs))
        return int(counter.get_total_flops())

    def training_seconds(self, precision: Precision) -> float:
        """Time the same call forward and backward, the gradient of its inputs included."""
        inputs = [one.clone().requires_grad_(one.is_floating_point()) for one in self.inputs]
        device = inputs[0].device

        def step() -> None:
            with network_precision(precision, device):
                out = self.network(*inputs)
            out.abs().sum().backward()

        return least_seconds(step, device.type)


@contextmanager
def watched(generator: Generator, device: str) -> Iterator[list[Call]]:
    """Collect the calls of a generator's networks; what surrounds them (fields, stitching) is left out."""
    networks = [generator] if generator.patchwise else [m for m in generator.modules() if isinstance(m, CanvasUNet)]
    calls: list[Call] = []
    started: list[float] = []

    def before(*_: object) -> None:
        synchronise(device)
        started.append(time.perf_counter())

    def after(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        synchronise(device)
        calls.append(Call(network=network, inputs=inputs, seconds=time.perf_counter() - started[-1]))

    hooks = [hook for m in networks for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
