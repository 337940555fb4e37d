"""Laws of the work on a probe before a training: it fits into its time and is never more than was wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.torch_backend.training.probe_work import (
    FEWEST_PATTERNS,
    FOCUS_PASSES,
    ROUND_PASSES,
    ProbeWork,
    work_within,
)

WORK = st.builds(
    ProbeWork, focus_patterns=st.integers(0, 3000), rounds=st.integers(0, 200), round_patterns=st.integers(1, 3000)
)
SECONDS = st.floats(0, 1e5)


@given(WORK, SECONDS, st.floats(0, 100))
def test_the_work_fits_into_its_time(wanted: ProbeWork, time_s: float, pass_s: float) -> None:
    """At the pace that was measured, focus and all rounds together take no longer than there is."""
    work = work_within(wanted, time_s, pass_s)

    passes = FOCUS_PASSES * work.focus_patterns + ROUND_PASSES * work.rounds * work.round_patterns
    assert passes * pass_s <= time_s * (1 + 1e-9)


@given(WORK, SECONDS, st.floats(0, 100))
def test_the_work_is_part_of_what_was_wanted(wanted: ProbeWork, time_s: float, pass_s: float) -> None:
    """Never more rounds or patterns; where a part is done, it is on enough patterns to tell something."""
    work = work_within(wanted, time_s, pass_s)

    assert 0 <= work.focus_patterns <= wanted.focus_patterns
    assert 0 <= work.rounds <= wanted.rounds
    assert 1 <= work.round_patterns <= wanted.round_patterns
    for patterns, of in (
        (work.focus_patterns or wanted.focus_patterns, wanted.focus_patterns),
        (work.round_patterns, wanted.round_patterns),
    ):
        assert patterns >= min(of, FEWEST_PATTERNS)


@given(WORK, st.floats(0, 100))
def test_without_a_limit_nothing_is_left_out(wanted: ProbeWork, pass_s: float) -> None:
    """All of it is done, whatever it takes."""
    assert work_within(wanted, None, pass_s) == wanted


@given(WORK, SECONDS, SECONDS, st.floats(1e-4, 10))
def test_more_time_is_not_less_work(wanted: ProbeWork, one_s: float, other_s: float, pass_s: float) -> None:
    """Every step up in time leaves at least as many patterns for the focus."""
    less, more = (work_within(wanted, time_s, pass_s) for time_s in sorted((one_s, other_s)))

    assert less.focus_patterns <= more.focus_patterns


@pytest.mark.parametrize(
    ("time_s", "work"),
    [
        (1000.0, (64, 30, 256)),
        (30.0, (64, 2, 180)),
        (10.0, (53, 2, 43)),
        (5.0, (0, 2, 35)),
        (3.0, (0, 1, 32)),
        (0.5, (0, 0, 32)),
    ],
)
def test_work_at_a_pace(time_s: float, work: tuple[int, int, int]) -> None:
    """At 50 ms a pattern, from all of it over fewer patterns and rounds, and no focus, to nothing."""
    wanted = ProbeWork(focus_patterns=2000, rounds=30, round_patterns=2000)

    found = work_within(wanted, time_s, 0.05)

    assert (found.focus_patterns, found.rounds, found.round_patterns) == work
