"""Memory of the torch backend: measured on one group, multiplied, and compared with what is free before it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.machine import available_memory
from ptycho_adapters.torch_backend.data.groups import grouping_of
from ptycho_adapters.torch_backend.data.resident import count_bytes
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
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.data.groups import TrainingSet
    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan

_PIECE_PX = 32
_FEWER_PATTERNS = "--n-subsample {}"
_MEMORY_MAP = "--memory-map FOLDER"
# More patterns of a memory-mapped scan are hardly ever looked at together.
_MAPPED_AT_ONCE = 256
_FEWER_GROUPS = "--n-groups {0} --n-subsample {0}"


def size_of(scan: Scan, n_patterns: int) -> ScanSize:
    """Return how large a part of a scan is."""
    return ScanSize(n_patterns=n_patterns, size_px=scan.N, modes=scan.n_modes, count_bytes=count_bytes(scan))


def free_bytes(device: torch.device) -> int:
    """Return what is free in the memory that a device works in."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def check_residency(scan: Scan, n_patterns: int, execution: PyTorchExecutionConfig) -> None:
    """Refuse a reconstruction whose patterns do not fit on the device beside each other; the scan is there already.

    Args:
        scan: to reconstruct.
        n_patterns: patterns that take part.
        execution: names the device.

    Raises:
        MemoryShortageError: they do not fit.
    """
    device = pick_device(execution.accelerator)

    def demand(numbers: Sequence[int]) -> MemoryDemand:
        return _resident([scan], numbers)

    fewer = Remedy(action=_FEWER_PATTERNS, largest=n_patterns, demand=lambda number: demand([number]))
    remedies = [fewer, *_mapping([scan], [n_patterns], demand)]
    check_memory("reconstruction", demand([n_patterns]), free_bytes(device), remedies)


def _resident(scans: Sequence[Scan], numbers: Sequence[int]) -> MemoryDemand:
    """Return what so many patterns of each scan take: of a memory-mapped scan only some are in memory together."""
    return resident_demand(
        *(
            size_of(scan, min(number, _MAPPED_AT_ONCE) if scan.memory_mapped else number)
            for scan, number in zip(scans, numbers, strict=True)
        )
    )


def _mapping(
    scans: Sequence[Scan], numbers: Sequence[int], demand: Callable[[Sequence[int]], MemoryDemand]
) -> list[Remedy]:
    """Return the remedy of leaving the patterns in files, for scans whose patterns are not.

    Args:
        scans: that do not fit.
        numbers: of patterns of each that take part.
        demand: what is needed at a number of patterns of each on the device.
    """
    if all(scan.memory_mapped or number <= _MAPPED_AT_ONCE for scan, number in zip(scans, numbers, strict=True)):
        return []
    # Out of a file come float32 counts, which may take as much as twice as many short ones.
    as_many = [
        min(number, _MAPPED_AT_ONCE) * 4 // count_bytes(scan) for scan, number in zip(scans, numbers, strict=True)
    ]
    return [Remedy(action=_MEMORY_MAP, largest=2, demand=lambda _: demand(as_many))]


def check_patterns(payload: TrainingPayload, data: TrainingSet) -> None:
    """Refuse a training whose patterns do not fit on the device beside each other; the scans are there already.

    Args:
        payload: of the training.
        data: only the patterns of its groups are brought to the device.

    Raises:
        MemoryShortageError: they do not fit.
    """
    device = pick_device(payload.execution_config.accelerator)

    def demand(numbers: Sequence[int]) -> MemoryDemand:
        return _resident(data.scans, numbers)

    now = _numbers(data)
    remedies = [*_fewer_patterns(payload, data, demand), *_mapping(data.scans, now, demand)]
    check_memory("training", demand(now), free_bytes(device), remedies)


def _numbers(data: TrainingSet) -> list[int]:
    """Return how many patterns of each scan are trained or validated on, another scan's with those of the first."""
    return [groups.n_patterns for groups in data.groups]


def _fewer_patterns(
    payload: TrainingPayload, data: TrainingSet, demand: Callable[[Sequence[int]], MemoryDemand]
) -> list[Remedy]:
    """Return the ways to train on fewer patterns; without oversampling there is at most one group for each.

    Args:
        payload: of the training.
        data: groups as they are drawn now.
        demand: what is needed at a number of patterns of each scan on the device.
    """
    grouping, now = grouping_of(payload), max(_numbers(data))

    def of_subsample(n_subsample: int) -> MemoryDemand:
        # Either side of the border to the held-out region has at least one whole group.
        each = max(n_subsample, grouping.C)
        return demand(
            [min(g.n_patterns, each + (n_subsample if g.apart else grouping.C)) for g in data.groups],
        )

    oversampled = grouping.enable_oversampling and grouping.C > 1
    needed = grouping.C if oversampled else max(grouping.C, grouping.n_groups)
    fewer = Remedy(action=_FEWER_PATTERNS, largest=now, smallest=needed, demand=of_subsample)
    both = Remedy(action=_FEWER_GROUPS, largest=min(now, needed), smallest=grouping.C, demand=of_subsample)
    return [fewer] if oversampled else [fewer, both]


def check_training(payload: TrainingPayload, module: PtychoModule, data: TrainingSet) -> None:
    """Refuse a training whose batches do not fit; patterns and network are there already.

    Args:
        payload: of the training.
        module: as it will be trained, on the CPU.
        data: whose batches are meant.

    Raises:
        MemoryShortageError: a batch and its gradient do not fit.
    """
    device = pick_device(payload.execution_config.accelerator)
    kept = max(
        kept_for_gradient(module, torch.tensor(groups.train[:1], dtype=torch.int64), scan)
        for scan, groups in enumerate(data.groups)
    )
    weights = sum(parameter.numel() for parameter in module.parameters())
    batch_size = min(payload.pt_training_config.batch_size, max(len(groups.train) for groups in data.groups))
    now = _numbers(data)
    moves = device.type != "cpu"

    def demand(*, groups_in_batch: int = batch_size, numbers: Sequence[int] = now) -> MemoryDemand:
        batch = training_demand(kept_bytes=kept, batch_size=groups_in_batch, n_weights=weights)
        # On a device of its own, the patterns still have to be moved, those of a map batch by batch.
        return MemoryDemand(parts={**_resident(data.scans, numbers).parts, **batch.parts}) if moves else batch

    smaller = Remedy(action="--batch-size {}", largest=batch_size, demand=lambda number: demand(groups_in_batch=number))
    fewer = _fewer_patterns(payload, data, lambda numbers: demand(numbers=numbers)) if moves else []
    mapped = _mapping(data.scans, now, lambda numbers: demand(numbers=numbers)) if moves else []
    check_memory("training", demand(), free_bytes(device), [smaller, *fewer, *mapped])


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
    kept = kept_per_pixel(generator, scan)

    def network_px(n_patterns: int) -> int:
        if generator.patchwise:
            return min(batch_size, n_patterns) * scan.N**2
        return canvas_px if generator.at_once_px is None else min(canvas_px, generator.at_once_px)

    def demand(n_patterns: int) -> MemoryDemand:
        # A share of the patterns is taken to lie all over the scan.
        return reconstruction_demand(
            ScanSize(n_patterns=n_patterns, size_px=scan.N, modes=scan.n_modes),
            canvas_px=canvas_px,
            network_bytes_per_px=kept,
            network_px=network_px(n_patterns),
            channels=2 * generator.memory_channels,
        )

    remedies = [Remedy(action=_FEWER_PATTERNS, largest=len(chosen), demand=demand)]
    check_memory("reconstruction", demand(len(chosen)), free_bytes(device), remedies)


def kept_for_gradient(module: PtychoModule, groups: Tensor, scan: int = 0) -> int:
    """Measure what the training keeps of some groups for the gradient, in bytes, by running them through it.

    Args:
        module: as it will be trained.
        groups: (B, C) scan indices.
        scan: number of the scan that they are of.
    """
    kept = _Kept(module)
    with kept, torch.enable_grad():
        module.objective.total(module.predict_groups(groups, module.arms.training[scan]))
    return kept.size


def kept_per_pixel(generator: Generator, scan: Scan) -> float:
    """Measure what one step of a generator would keep of a pixel for the gradient, in bytes, by running a pattern.

    A generator that works on canvases takes any size, so a small piece says it.

    Args:
        generator: of the model, on the device.
        scan: to reconstruct.
    """
    size = scan.N if generator.patchwise else min(scan.N, _PIECE_PX)
    device = next(generator.parameters(), torch.zeros(0)).device
    kept = _Kept(generator)
    with torch.inference_mode(mode=False), torch.enable_grad(), kept:
        amplitude = torch.ones(1, 1, size, size, device=device)
        generator(amplitude, torch.ones(1, 1, scan.n_modes, size, size, dtype=torch.complex64, device=device))
    return kept.size / max(1, len(generator.steps())) / size**2


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
