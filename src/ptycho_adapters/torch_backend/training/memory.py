"""Whether a training fits into memory: measured on one group, multiplied, and compared with what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.memory import fewer_patterns, numbers_of_patterns
from ptycho_adapters.torch_backend.execution import pick_device
from ptycho_adapters.torch_backend.memory import Kept, free_bytes, residence
from ptycho_core.memory import MemoryDemand, Remedy, check_memory, training_demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config.payload import TrainingPayload


def check_patterns(payload: TrainingPayload, data: TrainingSet) -> None:
    """Refuse a training whose patterns do not fit on the device beside each other; the scans are there already.

    Args:
        payload: of the training.
        data: only the patterns of its groups are brought to the device.

    Raises:
        MemoryShortageError: they do not fit.
    """
    device = pick_device(payload.execution_config.accelerator)
    stays, now = residence(data.scans), numbers_of_patterns(data)
    remedies = [*fewer_patterns(payload, data, stays.demand), *stays.mapping(now, stays.demand)]
    check_memory("training", stays.demand(now), free_bytes(device), remedies)


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
    stays, now = residence(data.scans), numbers_of_patterns(data)
    moves = device.type != "cpu"

    def demand(*, groups_in_batch: int = batch_size, numbers: Sequence[int] = now) -> MemoryDemand:
        batch = training_demand(kept_bytes=kept, batch_size=groups_in_batch, n_weights=weights)
        # On a device of its own, the patterns still have to be moved, those of a map batch by batch.
        return MemoryDemand(parts={**stays.demand(numbers).parts, **batch.parts}) if moves else batch

    smaller = Remedy(action="--batch-size {}", largest=batch_size, demand=lambda number: demand(groups_in_batch=number))
    fewer = fewer_patterns(payload, data, lambda numbers: demand(numbers=numbers)) if moves else []
    mapped = stays.mapping(now, lambda numbers: demand(numbers=numbers)) if moves else []
    check_memory("training", demand(), free_bytes(device), [smaller, *fewer, *mapped])


def kept_for_gradient(module: PtychoModule, groups: Tensor, scan: int = 0) -> int:
    """Measure what the training keeps of some groups for the gradient, in bytes, by running them through it.

    Args:
        module: as it will be trained.
        groups: (B, C) scan indices.
        scan: number of the scan that they are of.
    """
    kept = Kept(module)
    with kept, torch.enable_grad():
        module.objective.total(module.predict_groups(groups, module.arms.training[scan]))
    return kept.size
