"""Whether a training fits into memory: measured on one group, multiplied, and compared with what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.groups import grouping_of
from ptycho_adapters.torch_backend.execution import pick_device
from ptycho_adapters.torch_backend.memory import FEWER_PATTERNS, Kept, free_bytes, mapping, resident
from ptycho_core.memory import MemoryDemand, Remedy, check_memory, training_demand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config.payload import TrainingPayload

_FEWER_GROUPS = "--n-groups {0} --n-subsample {0}"


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
        return resident(data.scans, numbers)

    now = _numbers(data)
    remedies = [*_fewer_patterns(payload, data, demand), *mapping(data.scans, now, demand)]
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
    fewer = Remedy(action=FEWER_PATTERNS, largest=now, smallest=needed, demand=of_subsample)
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
        return MemoryDemand(parts={**resident(data.scans, numbers).parts, **batch.parts}) if moves else batch

    smaller = Remedy(action="--batch-size {}", largest=batch_size, demand=lambda number: demand(groups_in_batch=number))
    fewer = _fewer_patterns(payload, data, lambda numbers: demand(numbers=numbers)) if moves else []
    mapped = mapping(data.scans, now, lambda numbers: demand(numbers=numbers)) if moves else []
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
