"""Memory of the torch backend: what scans take, what is free, and what autograd keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.memory import Residence
from ptycho_adapters.machine import available_memory
from ptycho_adapters.torch_backend.data.resident import count_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ptycho_core.measurement.scan import Scan


def free_bytes(device: torch.device) -> int:
    """Return what is free in the memory that a device works in."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def residence(scans: Sequence[Scan]) -> Residence:
    """Return the scans with what their counts take on a device."""
    return Residence(scans=tuple(scans), count_bytes=tuple(map(count_bytes, scans)))


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
