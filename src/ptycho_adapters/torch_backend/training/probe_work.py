"""How much of the work on a probe before a training fits into the time that there is for it."""

from __future__ import annotations

import attrs

# What one pattern costs in a search for the focus and in a round, in what it costs in a pass over eight patterns, which
# is not an even share of one over many: two to three times of what was measured.
FOCUS_PASSES, ROUND_PASSES = 1.5, 1.4
FEWEST_PATTERNS = 32  # that say something about a probe
_MOST_FOR_FOCUS = 0.4  # of the time for the probe
_WANTED_ROUNDS = 2  # rather on fewer patterns than fewer rounds
_ALL_OF_FOCUS, _ALL_OF_ROUND = 64, 256  # patterns beyond which neither looks


@attrs.frozen(kw_only=True)
class ProbeWork:
    """What is done about a probe.

    Attributes:
        focus_patterns: patterns that the focus is looked for on; 0 leaves it.
        rounds: rounds of refinement, at most.
        round_patterns: patterns in each of them.
    """

    focus_patterns: int
    rounds: int
    round_patterns: int


def work_within(wanted: ProbeWork, time_s: float | None, pass_s: float) -> ProbeWork:
    """Cut the work on a probe down to the time that there is.

    Args:
        wanted: without a limit.
        time_s: seconds for all of it; None for no limit.
        pass_s: seconds of a pass of the network over one pattern.

    Returns:
        Work that takes at most `time_s` at this pace. A search or a round on too few patterns is left out.
    """
    if time_s is None:
        return wanted
    share = _MOST_FOR_FOCUS if wanted.rounds else 1.0
    focus = _affordable(min(wanted.focus_patterns, _ALL_OF_FOCUS), share * time_s, FOCUS_PASSES * pass_s)
    rest_s = time_s - focus * FOCUS_PASSES * pass_s
    in_round = min(wanted.round_patterns, _ALL_OF_ROUND)
    each_s = rest_s / max(1, min(wanted.rounds, _WANTED_ROUNDS))
    patterns = _affordable(in_round, each_s, ROUND_PASSES * pass_s)
    if not patterns:
        patterns = min(in_round, FEWEST_PATTERNS)
    rounds = int(min(wanted.rounds, rest_s / max(patterns * ROUND_PASSES * pass_s, 1e-9)))
    return ProbeWork(focus_patterns=focus, rounds=rounds, round_patterns=patterns)


def _affordable(wanted: int, time_s: float, each_s: float) -> int:
    """Return how many patterns, of those wanted, can be paid for; none if they are too few to tell anything."""
    number = int(min(wanted, time_s / max(each_s, 1e-9)))
    return number if number >= min(wanted, FEWEST_PATTERNS) else 0
