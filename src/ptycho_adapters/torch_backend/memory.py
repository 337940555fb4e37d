"""Memory of the torch backend: what scans take, what is free, and what autograd keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.machine import available_memory
from ptycho_adapters.torch_backend.data.resident import count_bytes
from ptycho_core.memory import MemoryDemand, Remedy, ScanSize, resident_demand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from ptycho_core.measurement.scan import Scan

FEWER_PATTERNS = "--n-subsample {}"
"""What asks for a number of patterns."""
_MEMORY_MAP = "--memory-map FOLDER"
# More patterns of a memory-mapped scan are hardly ever looked at together.
_MAPPED_AT_ONCE = 256


def size_of(scan: Scan, n_patterns: int) -> ScanSize:
    """Return how large a part of a scan is."""
    return ScanSize(n_patterns=n_patterns, size_px=scan.N, modes=scan.n_modes, count_bytes=count_bytes(scan))


def free_bytes(device: torch.device) -> int:
    """Return what is free in the memory that a device works in."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def resident(scans: Sequence[Scan], numbers: Sequence[int]) -> MemoryDemand:
    """Return what so many patterns of each scan take: of a memory-mapped scan only some are in memory together."""
    return resident_demand(
        *(
            size_of(scan, min(number, _MAPPED_AT_ONCE) if scan.memory_mapped else number)
            for scan, number in zip(scans, numbers, strict=True)
        )
    )


def mapping(
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


class Kept(torch.autograd.graph.saved_tensors_hooks):
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
