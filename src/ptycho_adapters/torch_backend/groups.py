"""Which groups of scan points a training sees, and in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler, TensorDataset

from ptycho_core.errors import ConfigError, Problem, raise_if_any
from ptycho_core.grouping import Grouping, group_positions, group_scan
from ptycho_core.splitting import RegionSplit, split_region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ptycho_core.payload import TrainingPayload
    from ptycho_core.scan import Scan


@attrs.frozen(kw_only=True, eq=False)
class TrainingGroups:
    """Groups of scan indices.

    Attributes:
        train: (G, C) to train on.
        validation: (G, C) to validate on; may be empty.
        apart: whether the groups to validate on are of another scan.
    """

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    apart: bool = False

    def of_training_scan(self) -> NDArray[np.int32]:
        """Return the indices (m,) of the training scan that any group uses, sorted."""
        members = [self.train] if self.apart else [self.train, self.validation]
        return np.unique(np.concatenate([each.ravel() for each in members]))

    def of_validation_scan(self) -> NDArray[np.int32]:
        """Return the indices (m,) that the groups to validate on use, sorted."""
        return np.unique(self.validation)

    @property
    def n_patterns(self) -> int:
        """Number of patterns of either scan that any group uses."""
        return len(self.of_training_scan()) + (len(self.of_validation_scan()) if self.apart else 0)


def training_groups(payload: TrainingPayload, scan: Scan, validation: Scan | None) -> TrainingGroups:
    """Hold out a region, then draw groups on either side of the border: none crosses it.

    Args:
        payload: resolved settings; numbers of groups and patterns are meant for the whole scan and shared out.
        scan: patterns to train on.
        validation: another scan to validate on instead of a region.

    Raises:
        ConfigError: the scan cannot give that many groups, or a region is too small for one.
    """
    grouping = grouping_of(payload)
    if validation is not None:
        held_out = group_scan(validation, _at_most(grouping, validation.n_patterns))
        return TrainingGroups(train=group_scan(scan, grouping).indices, validation=held_out.indices, apart=True)
    split = split_region(scan.positions_px, payload.pt_training_config.validation_fraction)
    raise_if_any(ConfigError, "training groups", _problems(grouping, split, scan.n_patterns))
    share = len(split.train) / scan.n_patterns
    inside = group_positions(scan.positions_px[split.train], _share_of(grouping, share)).indices
    if not len(split.validation):
        return TrainingGroups(train=inside, validation=inside[:0])
    few = attrs.evolve(_share_of(grouping, 1 - share), n_groups=grouping.n_groups)
    held_out_px = scan.positions_px[split.validation]
    outside = group_positions(held_out_px, _at_most(few, len(split.validation))).indices
    return TrainingGroups(
        train=split.train[inside].astype(np.int32), validation=split.validation[outside].astype(np.int32)
    )


def grouping_of(payload: TrainingPayload) -> Grouping:
    """Collect the settings of the group draw."""
    config, data = payload.pt_training_config, payload.pt_data_config
    return Grouping(
        n_groups=payload.tf_training_config.n_groups,
        gridsize=payload.tf_training_config.model.gridsize,
        neighbor_count=data.K,
        seed=config.seed if data.subsample_seed is None else data.subsample_seed,
        n_subsample=config.n_subsample,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
        sequential_sampling=config.sequential_sampling,
    )


class EpochShuffle(Sampler[int]):
    """A new order for every epoch that depends on seed and epoch alone, so that a resumed run meets the same ones.

    Args:
        count: number of items.
        seed: seed of the run.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls it before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        order: list[int] = np.random.default_rng((self._seed, self._epoch)).permutation(self._count).tolist()
        return iter(order)


def group_loader(
    groups: NDArray[np.int32], payload: TrainingPayload, *, shuffle: bool
) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of group indices (B, C) int64; the patterns themselves are on the device already."""
    execution, config = payload.execution_config, payload.pt_training_config
    return DataLoader(
        TensorDataset(torch.tensor(groups, dtype=torch.int64)),
        batch_size=config.batch_size,
        sampler=EpochShuffle(len(groups), config.seed) if shuffle else None,
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor,
        generator=torch.Generator().manual_seed(config.seed),
    )


def _share_of(grouping: Grouping, share: float) -> Grouping:
    """Share out numbers that are meant for the whole scan."""
    patterns = grouping.n_subsample
    return attrs.evolve(
        grouping,
        n_groups=max(1, round(grouping.n_groups * share)),
        n_subsample=None if patterns is None else max(grouping.C, round(patterns * share)),
    )


def _at_most(grouping: Grouping, n_patterns: int) -> Grouping:
    """Ask for no more than this many patterns and one group for each."""
    patterns = n_patterns if grouping.n_subsample is None else min(grouping.n_subsample, n_patterns)
    return attrs.evolve(grouping, n_groups=min(grouping.n_groups, patterns), n_subsample=patterns)


def _problems(grouping: Grouping, split: RegionSplit, n_patterns: int) -> Iterator[Problem]:
    held_out, wanted = len(split.validation), grouping.n_subsample
    if 0 < held_out < grouping.C:
        yield Problem(
            path="validation_fraction",
            expected=f"0, or a share of the {n_patterns} patterns that holds a group of C = gridsize² = {grouping.C}",
            found=f"one of {held_out} patterns",
        )
    if wanted is not None and wanted > n_patterns:
        yield Problem(path="n_subsample", expected=f"at most {n_patterns} patterns", found=str(wanted))
