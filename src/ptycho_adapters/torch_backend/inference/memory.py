"""Whether a reconstruction fits into memory: measured on one pattern, multiplied, and compared with what is free."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.common.memory import FEWER_PATTERNS
from ptycho_adapters.torch_backend.execution import pick_device
from ptycho_adapters.torch_backend.finish.descent import REMEMBERED
from ptycho_adapters.torch_backend.finish.slow_waves import BATCH
from ptycho_adapters.torch_backend.finish.tents import Coarseness
from ptycho_adapters.torch_backend.generators import View, run_steps
from ptycho_adapters.torch_backend.generators.calling import patches_from
from ptycho_adapters.torch_backend.memory import Kept, free_bytes, residence
from ptycho_core.memory import (
    FinishSize,
    MemoryDemand,
    Remedy,
    ScanSize,
    check_memory,
    finish_demand,
    reconstruction_demand,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.measurement.scan import Scan

_PIECE_PX = 32
_NO_FINISH = "--finish none"


def check_residency(scan: Scan, n_patterns: int, execution: PyTorchExecutionConfig) -> None:
    """Refuse a reconstruction whose patterns do not fit on the device beside each other; the scan is there already.

    Args:
        scan: to reconstruct.
        n_patterns: patterns that take part.
        execution: names the device.

    Raises:
        MemoryShortageError: they do not fit.
    """
    stays, device = residence([scan]), pick_device(execution.accelerator)
    fewer = Remedy(action=FEWER_PATTERNS, largest=n_patterns, demand=lambda number: stays.demand([number]))
    remedies = [fewer, *stays.mapping([n_patterns], stays.demand)]
    check_memory("reconstruction", stays.demand([n_patterns]), free_bytes(device), remedies)


def check_reconstruction(
    generator: Generator,
    scan: Scan,
    chosen: NDArray[np.int64],
    device: torch.device,
    *,
    batch_size: int,
    finished: bool = False,
) -> None:
    """Refuse a reconstruction whose fields and canvas, or whose finish, do not fit; the patterns are there already.

    Args:
        generator: of the model, on the device.
        scan: to reconstruct.
        chosen: (n,) patterns that take part.
        device: to work on.
        batch_size: patterns at a time.
        finished: whether the object is to be taken further.

    Raises:
        MemoryShortageError: they do not fit.
    """
    height, width = (int(side) for side in np.ceil(np.ptp(scan.positions_px[chosen], axis=0) + scan.N + 1.0))
    canvas_px = height * width
    kept = kept_per_pixel(generator, scan)

    def network_px(n_patterns: int) -> int:
        if generator.patchwise:
            return min(batch_size, n_patterns) * scan.N**2
        return canvas_px if generator.at_once_px is None else min(canvas_px, generator.at_once_px)

    def size(n_patterns: int) -> ScanSize:
        return ScanSize(n_patterns=n_patterns, size_px=scan.N, modes=scan.n_modes)

    def demand(n_patterns: int) -> MemoryDemand:
        # A share of the patterns is taken to lie all over the scan.
        return reconstruction_demand(
            size(n_patterns),
            canvas_px=canvas_px,
            network_bytes_per_px=kept,
            network_px=network_px(n_patterns),
            channels=2 * generator.memory_channels,
        )

    remedies = [Remedy(action=FEWER_PATTERNS, largest=len(chosen), demand=demand)]
    check_memory("reconstruction", demand(len(chosen)), free_bytes(device), remedies)
    if finished:
        needed = finish_demand(size(len(chosen)), _finish_size(height, width, scan.N, batch_size))
        without = Remedy(action=_NO_FINISH, largest=1, demand=lambda _: demand(len(chosen)))
        check_memory("the finish of the reconstruction", needed, free_bytes(device), [without])


def _finish_size(height: int, width: int, size: int, batch_size: int) -> FinishSize:
    coarse = Coarseness.on(height, width, size)
    return FinishSize(
        canvas_px=height * width,
        remembered=REMEMBERED,
        nodes=coarse.nodes,
        tents_per_patch=coarse.tents_per_patch,
        batch_size=batch_size,
        slow_batch_size=BATCH,
    )


def kept_per_pixel(generator: Generator, scan: Scan) -> float:
    """Measure what one step of a generator would keep of a pixel for the gradient, in bytes, by running a pattern.

    A generator that works on canvases takes any size and in each step the same, so a small piece and two steps say it.

    Args:
        generator: of the model, on the device.
        scan: to reconstruct.
    """
    size = scan.N if generator.patchwise else min(scan.N, _PIECE_PX)
    device = next(generator.parameters(), torch.zeros(0)).device
    kept = Kept(generator)
    with torch.inference_mode(mode=False), torch.enable_grad(), kept:
        together = generator.together
        amplitude = torch.ones(1, together, size, size, device=device)
        probes = torch.ones(1, together, scan.n_modes, size, size, dtype=torch.complex64, device=device)
        if generator.patchwise:
            patches_from(generator, amplitude, probes)
            return kept.size / size**2
        # The second step is as all that follow: it starts from an object that wants a gradient.
        where = torch.arange(size * size, device=device).expand(1, together, -1)
        view = View(amplitude=amplitude, probes=probes, weight=amplitude, where=where, good_pixels=None)
        sizes = [0, *(kept.size for _ in islice(run_steps(generator, lambda: (view,), amplitude[:, 0]), 2))]
    return (sizes[-1] - sizes[-2]) / size**2
