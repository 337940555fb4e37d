"""What the patterns of scans take where they are worked on, and what would take less; whichever backend asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.common.groups import grouping_of
from ptycho_core.measurement.scan import Scan
from ptycho_core.memory import MemoryDemand, Remedy, ScanSize, resident_demand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_core.config.payload import TrainingPayload

FEWER_PATTERNS = "--n-subsample {}"
"""What asks for a number of patterns."""
_FEWER_GROUPS = "--n-groups {0} --n-subsample {0}"
_MEMORY_MAP = "--patterns-in file, or --memory-map FOLDER where the file is no HDF5 file"
# More patterns of a memory-mapped scan are hardly ever looked at together.
_MAPPED_AT_ONCE = 256


@attrs.frozen(kw_only=True, eq=False)
class Residence:
    """Scans whose patterns are brought to where they are worked on.

    Attributes:
        scans: the scans.
        count_bytes: of a count of each of them there.
    """

    scans: tuple[Scan, ...]
    count_bytes: tuple[int, ...]

    def demand(self, numbers: Sequence[int]) -> MemoryDemand:
        """Return what so many patterns of each scan take: of a memory-mapped scan only some are in memory together."""
        return resident_demand(
            *(
                ScanSize(
                    n_patterns=min(number, _MAPPED_AT_ONCE) if scan.memory_mapped else number,
                    size_px=scan.N,
                    modes=scan.n_modes,
                    count_bytes=count_bytes,
                )
                for scan, number, count_bytes in zip(self.scans, numbers, self.count_bytes, strict=True)
            )
        )

    def mapping(self, numbers: Sequence[int], demand: Callable[[Sequence[int]], MemoryDemand]) -> list[Remedy]:
        """Return the remedy of leaving the patterns in files, for scans whose patterns are not.

        Args:
            numbers: of patterns of each that take part.
            demand: what is needed at a number of patterns of each.
        """
        if all(
            scan.memory_mapped or number <= _MAPPED_AT_ONCE for scan, number in zip(self.scans, numbers, strict=True)
        ):
            return []
        # Out of a file come float32 counts, which may take as much as twice as many short ones.
        as_many = [min(n, _MAPPED_AT_ONCE) * 4 // size for n, size in zip(numbers, self.count_bytes, strict=True)]
        return [Remedy(action=_MEMORY_MAP, largest=2, demand=lambda _: demand(as_many))]


def numbers_of_patterns(data: TrainingSet) -> list[int]:
    """Return how many patterns of each scan are trained or validated on, another scan's with those of the first."""
    return [groups.n_patterns for groups in data.groups]


def fewer_patterns(
    payload: TrainingPayload, data: TrainingSet, demand: Callable[[Sequence[int]], MemoryDemand]
) -> list[Remedy]:
    """Return the ways to train on fewer patterns; without oversampling there is at most one group for each.

    Args:
        payload: of the training.
        data: groups as they are drawn now.
        demand: what is needed at a number of patterns of each scan.
    """
    grouping, now = grouping_of(payload), max(numbers_of_patterns(data))

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
