"""The groups of a training as Lightning wants them: batches of indices."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ptycho_adapters.common.groups import batches_of_epoch, random_of_epoch, scan_of_batches
from ptycho_adapters.crew import Crew
from ptycho_adapters.torch_backend.data.ahead import read_ahead
from ptycho_adapters.torch_backend.sharing import present_crew

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.data.resident import ResidentScan
    from ptycho_core.config.payload import TrainingPayload


class GroupBatch(NamedTuple):
    """Some groups of one scan.

    Attributes:
        indices: (B, C) int64 scan indices.
        scan: number of the scan in the training.
        counts: (B, C, N, N) float32 of the patterns, where they were read ahead.
        weight: of the mean over these groups in the mean over the processes, of which each has a part of the batch.
        whole: number of groups in the whole batch.
    """

    indices: Tensor
    scan: int
    counts: Tensor | None = None
    weight: float = 1.0
    whole: int = 0

    @property
    def counted(self) -> int:
        """Number of groups in a mean over all processes: none where a process only keeps step with the others."""
        return len(self.indices) if self.weight else 0


class GroupsOfScans(Dataset[GroupBatch]):
    """Groups of several scans, taken by the batch, of which each process has its part.

    A batch is one and the same however many processes share it: means over their parts, taken with the parts' weights,
    are the means over all of it. A process for which a batch has no group left takes the first one with no weight.

    Args:
        groups: (G, C) scan indices, for each scan.
        crew: the processes that train.
    """

    def __init__(self, groups: Iterable[NDArray[np.int32]], crew: Crew | None = None) -> None:
        self._groups = [torch.tensor(each, dtype=torch.int64) for each in groups]
        self._crew = crew or Crew()

    def __getitem__(self, index: tuple[int, list[int]]) -> GroupBatch:
        scan, rows = index
        own = self._crew.share(len(rows))
        taken = rows[own.start : own.stop] or rows[:1]
        weight = len(own) * self._crew.count / len(rows)
        return GroupBatch(indices=self._groups[scan][taken], scan=scan, weight=weight, whole=len(rows))


class EpochBatches(Sampler[tuple[int, list[int]]]):
    """Batches of groups, each of one scan: its number, and the numbers of the groups among those of that scan.

    The groups of a scan come in a new order in every epoch, and the scans take turns at random. Both depend on seed and
    epoch alone, so that a resumed run meets the same ones.

    Args:
        counts: number of groups of each scan.
        batch_size: groups in a batch; the last one of a scan has what is left.
        seed: seed of the run; None keeps all in order, scan after scan.
        done: batches that the first epoch has behind it already.
    """

    def __init__(self, counts: Iterable[int], *, batch_size: int, seed: int | None, done: int = 0) -> None:
        self._counts = tuple(counts)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self._done = done

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls it before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(scan_of_batches(self._counts, self._batch_size))

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        # Not before the first batch is asked for: Lightning sets the epoch of a resumed run in between.
        batches = batches_of_epoch(self._counts, self._batch_size, random_of_epoch(self._seed, self._epoch))
        done, self._done = self._done, 0
        yield from islice(batches, done, None)


class ReadAheadLoader(DataLoader[GroupBatch]):
    """A loader whose batches bring the counts of patterns that stay in files, read while others are trained on.

    It asks for no batch before one is wanted: loader processes would ask for those of the epoch before.

    Attributes:
        scans: the patterns of each scan.
    """

    scans: Sequence[ResidentScan] = ()

    def __iter__(self) -> Iterator[GroupBatch]:  # type: ignore[override]  # torch's own return is an undocumented class
        batches = super().__iter__()
        if not any(scan.reads for scan in self.scans):
            yield from batches
            return
        for batch, counts in read_ahead(self._read, batches):
            yield batch._replace(counts=counts)

    def _read(self, batch: GroupBatch) -> Tensor | None:
        scan = self.scans[batch.scan]
        return scan.read(batch.indices) if scan.reads else None


def group_loader(
    groups: Sequence[NDArray[np.int32]],
    payload: TrainingPayload,
    scans: Sequence[ResidentScan] = (),
    *,
    shuffle: bool,
    done: int = 0,
) -> DataLoader[GroupBatch]:
    """Batches of groups (G, C) of each scan; the patterns themselves are on the device already, or are read ahead.

    Args:
        groups: of each scan.
        payload: resolved settings.
        scans: the patterns of each scan, for those that are to be read ahead.
        shuffle: whether every epoch has an order of its own.
        done: batches that the first epoch has behind it already.
    """
    execution, config = payload.execution_config, payload.pt_training_config
    seed = config.seed if shuffle else None
    loader = ReadAheadLoader(
        GroupsOfScans(groups, present_crew()),
        # The sampler gives whole batches, so nothing is left to collate.
        batch_size=None,
        sampler=EpochBatches(map(len, groups), batch_size=config.batch_size, seed=seed, done=done),
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor,
        generator=torch.Generator().manual_seed(config.seed),
    )
    loader.scans = scans
    return loader
