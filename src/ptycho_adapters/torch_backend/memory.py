"""Memory of the torch backend: measured on one group, multiplied, and compared with what is free before it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.machine import available_memory
from ptycho_adapters.torch_backend.execution import pick_device
from ptycho_core.memory import (
    MemoryDemand,
    Remedy,
    ScanSize,
    check_memory,
    reconstruction_demand,
    resident_demand,
    training_demand,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_adapters.torch_backend.module import PtychoModule
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.payload import TrainingPayload
    from ptycho_core.scan import Scan


def size_of(scan: Scan) -> ScanSize:
    """Return how large a scan is."""
    return ScanSize(n_patterns=scan.n_patterns, size_px=scan.N, modes=scan.n_modes)


def free_bytes(device: torch.device) -> int:
    """Return what is free in the memory that a device works in."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def check_residency(what: str, scan: Scan, execution: PyTorchExecutionConfig) -> None:
    """Refuse a scan whose patterns do not fit on the device beside each other; the scan itself is there already.

    Raises:
        MemoryShortageError: they do not fit.
    """
    device = pick_device(execution.accelerator)
    check_memory(what, resident_demand(size_of(scan)), free_bytes(device))


def check_training(payload: TrainingPayload, module: PtychoModule, scan: Scan, groups: NDArray[np.int32]) -> None:
    """Refuse a training whose batches do not fit; patterns and network are there already.

    Args:
        payload: of the training.
        module: as it will be trained, on the CPU.
        scan: to train on.
        groups: (G, C) scan indices.

    Raises:
        MemoryShortageError: a batch and its gradient do not fit.
    """
    device = pick_device(payload.execution_config.accelerator)
    kept = kept_for_gradient(module, torch.tensor(groups[:1], dtype=torch.int64))
    weights = sum(parameter.numel() for parameter in module.parameters())
    size = size_of(scan)
    moves = device.type != "cpu"

    def demand(batch_size: int) -> MemoryDemand:
        batch = training_demand(kept_bytes=kept, batch_size=batch_size, n_weights=weights)
        # On a device of its own, the patterns still have to be moved.
        return MemoryDemand(parts={**resident_demand(size).parts, **batch.parts}) if moves else batch

    batch_size = min(payload.pt_training_config.batch_size, len(groups))
    remedies = [Remedy(action="--batch-size {}", largest=batch_size, demand=demand)]
    check_memory("training", demand(batch_size), free_bytes(device), remedies)


def check_reconstruction(
    generator: Generator, scan: Scan, chosen: NDArray[np.int64], device: torch.device, *, batch_size: int
) -> None:
    """Refuse a reconstruction whose fields and canvas do not fit; the patterns are there already.

    Args:
        generator: of the model, on the device.
        scan: to reconstruct.
        chosen: (n,) patterns that take part.
        device: to work on.
        batch_size: patterns at a time.

    Raises:
        MemoryShortageError: they do not fit.
    """
    height, width = np.ptp(scan.positions_px[chosen], axis=0) + scan.N + 1.0
    canvas_px = int(np.ceil(height)) * int(np.ceil(width))
    one = _kept_for_one_pattern(generator, scan)
    steps = max(1, len(generator.steps()))

    def demand(n_patterns: int) -> MemoryDemand:
        # A share of the patterns is taken to lie all over the scan.
        return reconstruction_demand(
            ScanSize(n_patterns=n_patterns, size_px=scan.N, modes=scan.n_modes),
            canvas_px=canvas_px,
            network_bytes_per_px=one / steps / scan.N**2,
            network_px=min(batch_size, n_patterns) * scan.N**2 if generator.patchwise else canvas_px,
        )

    remedies = [Remedy(action="--n-subsample {}", largest=len(chosen), demand=demand)]
    check_memory("reconstruction", demand(len(chosen)), free_bytes(device), remedies)


def kept_for_gradient(module: PtychoModule, groups: Tensor) -> int:
    """Measure what the training keeps of some groups for the gradient, in bytes, by running them through it.

    Args:
        module: as it will be trained.
        groups: (B, C) scan indices.
    """
    kept = _Kept(module)
    with kept, torch.enable_grad():
        module.objective.total(module.predict_groups(groups, module.training_scan))
    return kept.size


def _kept_for_one_pattern(generator: Generator, scan: Scan) -> int:
    device = next(generator.parameters(), torch.zeros(0)).device
    kept = _Kept(generator)
    with torch.inference_mode(mode=False), torch.enable_grad(), kept:
        amplitude = torch.ones(1, 1, scan.N, scan.N, device=device)
        generator(amplitude, torch.ones(1, 1, scan.n_modes, scan.N, scan.N, dtype=torch.complex64, device=device))
    return kept.size


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Adds up the memory that autograd keeps inside of the block, each piece once, weights and buffers left out.

    Args:
        module: whose own tensors do not count.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        own = (*module.parameters(), *module.buffers())
        self._own = {tensor.untyped_storage().data_ptr() for tensor in own}
        # The tensors are held until the end, so that no address is used twice.
        self._seen: dict[int, Tensor] = {}
        super().__init__(self._keep, lambda tensor: tensor)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._seen.values())

    def _keep(self, tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in self._own:
            self._seen.setdefault(address, tensor.detach())
        return tensor
