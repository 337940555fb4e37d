"""How many threads a run can use of the processors that there are."""

from __future__ import annotations

import math

import attrs

_TAKEN_FOR_FREE = 0.2  # a core that others use no more of than this


@attrs.frozen(kw_only=True)
class Processors:
    """What there is for a process now.

    Attributes:
        cores: that it may run on.
        quota_cores: how many cores' worth of time its control groups allow; None where they set no limit.
        busy_cores: how many of its cores others keep busy.
    """

    cores: int
    quota_cores: float | None
    busy_cores: float


def threads_for(processors: Processors, most: int) -> int:
    """Return how many threads to compute with: one for each core that is free.

    Threads that share an operation wait for the slowest of them. One thread too many, on a core that does other work,
    costs more time than all that the others save.

    Args:
        processors: what there is.
        most: threads that are wanted at most.

    Returns:
        From 1 to `most`.
    """
    free = max(0.0, processors.cores - processors.busy_cores)
    if processors.quota_cores is not None:
        free = min(free, processors.quota_cores)
    return max(1, min(most, math.floor(free + _TAKEN_FOR_FREE)))
