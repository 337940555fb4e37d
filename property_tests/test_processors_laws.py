"""Laws of the number of threads: it never takes a core that somebody else has."""

from __future__ import annotations

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.processors import Processors, threads_for

PROCESSORS = st.builds(
    Processors,
    cores=st.integers(1, 512),
    quota_cores=st.none() | st.floats(0.01, 600),
    busy_cores=st.floats(0, 600),
)
MOST = st.integers(1, 512)


@given(PROCESSORS, MOST)
def test_there_is_one_thread_at_least_and_no_more_than_wanted(processors: Processors, most: int) -> None:
    """Nor more than cores."""
    assert 1 <= threads_for(processors, most) <= max(1, min(most, processors.cores))


@given(PROCESSORS, MOST)
def test_threads_fit_beside_the_work_of_others(processors: Processors, most: int) -> None:
    """More than one thread leaves every busy core and the group's limit alone, to a fifth of a core."""
    threads = threads_for(processors, most)

    assert threads == 1 or threads + processors.busy_cores <= processors.cores + 0.2
    assert threads == 1 or processors.quota_cores is None or threads <= processors.quota_cores + 0.2


@given(st.integers(1, 512), st.floats(0, 0.2), MOST)
def test_an_idle_machine_is_used_whole(cores: int, busy: float, most: int) -> None:
    """A little noise takes no thread away."""
    assert threads_for(Processors(cores=cores, quota_cores=None, busy_cores=busy), most) == min(cores, most)


@given(PROCESSORS, MOST, st.floats(0, 600))
def test_more_load_is_never_more_threads(processors: Processors, most: int, more: float) -> None:
    """And a lower limit neither."""
    fewer = threads_for(attrs.evolve(processors, busy_cores=processors.busy_cores + more), most)
    limited = threads_for(attrs.evolve(processors, quota_cores=min(more, processors.quota_cores or math.inf)), most)

    assert max(fewer, limited) <= threads_for(processors, most)
