"""Network and everything else that is unknown about a scan, in turn: probe, background, single positions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import torch

from ptycho_adapters.common.bars import counted
from ptycho_adapters.stages import say, stage
from ptycho_adapters.torch_backend.inference.frame_flux import flux_step
from ptycho_adapters.torch_backend.inference.likely_probe import likely_probe
from ptycho_adapters.torch_backend.inference.position_refinement import single_moves
from ptycho_adapters.torch_backend.inference.probe_refinement import background_step, probe_step
from ptycho_adapters.torch_backend.inference.whole_scan import STEPS_OF_A_GLANCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from ptycho_adapters.common.candidates import Judgement
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

ROUNDS_BEFORE_A_RECONSTRUCTION, ROUNDS_BEFORE_A_TRAINING = 3, 6
ROUNDS_OF_A_NEW_PROBE = 10  # that was made out of the mean pattern before a reconstruction
_FEW_PATTERNS, _PATTERNS = 128, 256  # say most, and all about probe and background, however large the scan
_DESCENT, _LAST_DESCENT = 10, 20  # steps of object and probe in a round: looks at the patterns, a tenth of a pass each
_PROBE_STEPS = 3  # under a held object, and in a round for the positions alone
_LAST_ROUNDS = 1  # are made with more patterns
_SETTLING_ROUNDS = 1  # before the first look at the positions
_MOVING_ROUNDS, _FEWEST_ROUNDS = 12, 3
_LONGEST = _SETTLING_ROUNDS + _MOVING_ROUNDS + 1
_BACKGROUND_ROUNDS = 3
_SETTLED_PX, _CLEAR_NOISES = 0.1, 3.0  # that moves have to exceed, and that the first have to show
_CLEAR_GAIN, _LEAST_GAIN = 0.2, 0.005  # of what is left above shot noise, and of all: for moved positions to be kept


def never() -> bool:
    """Never enough."""
    return False


@attrs.frozen(kw_only=True)
class Turns:
    """What takes turns with the network, and for how long.

    Attributes:
        probe: rounds of the probe, each a network pass and a descent from there; 0 leaves the probe as it is.
        held: whether the probe makes a few steps under what the network makes at a glance instead, which is held:
            object and probe together explain much of what another fault does, and hide it.
        background: whether the background is refined with it.
        positions: whether each position is moved by itself.
        work: what a bar calls it; None for a trial, which has no bar.
        enough: asked before each round; no more are made once it says so.
        more_follow: whether further rounds of the probe follow these, with more patterns.
    """

    probe: int
    held: bool = False
    background: bool = False
    positions: bool = False
    work: str | None = None
    enough: Callable[[], bool] = never
    more_follow: bool = False


@torch.no_grad()
def refine(start: WholeScan, turns: Turns) -> WholeScan:
    """Refine what is unknown about a scan under a network.

    Args:
        start: network, patterns, and the first probe, background and positions. If there are many patterns, those
            around their middle say how probe and background are, and whether positions have to be moved at all.
        turns: what to refine.

    Returns:
        The pass with a probe of the same energy, and its positions where they were if moving them gained nothing.
    """
    few = start.around_the_middle(_FEW_PATTERNS)
    if few is start:
        return _in_turns(start, turns)
    last = min(turns.probe, _LAST_ROUNDS)
    run = _in_turns(few, attrs.evolve(turns, probe=turns.probe - last, more_follow=True))
    many = start.around_the_middle(_PATTERNS)
    run = _carried_over(run, many, attrs.evolve(turns, probe=last))
    if many is start:
        return run
    return _carried_over(run, start, attrs.evolve(turns, probe=0, background=False))


def _carried_over(found: WholeScan, given: WholeScan, turns: Turns) -> WholeScan:
    """Go on with more patterns: the probe and background that some have found, positions moved as theirs were."""
    before = given.scan.positions_px(found.indices)
    moves = found.positions_px() - before
    more = attrs.evolve(given, probe=found.probe, background=found.background)
    if not moves.any():
        return _in_turns(more, attrs.evolve(turns, positions=False), settled=given)
    moved = more.moved(moves_of_the_stage(before, moves, more.positions_px()))
    return _in_turns(moved, turns, settled=given)


def _in_turns(start: WholeScan, turns: Turns, *, settled: WholeScan | None = None) -> WholeScan:
    """Take turns; a pass that has settled on the positions where it starts says where they were given."""
    course = _Course(settled or start, moving=turns.positions)
    run, for_background = start, _BACKGROUND_ROUNDS if turns.background else 0
    least = max(turns.probe, for_background)
    if not (course.moving or least):
        return run
    most = least + (_LONGEST if course.moving else 0)
    unsettled, rounds = 0 if settled else min(_SETTLING_ROUNDS, least), 0
    with stage("probe rounds", patterns=len(start.indices)) as said:
        for number in _rounds(most, turns, start):
            if turns.enough() or not (course.moving or number < least):
                break
            run = _round(run, turns, course, number, unsettled)
            rounds += 1
            said.count(rounds=rounds)
            say("round", {"number": number + 1}, level=logging.DEBUG)
    return course.result(run)


def _rounds(most: int, turns: Turns, start: WholeScan) -> Iterable[int]:
    return range(most) if turns.work is None else counted(most, f"{turns.work}, {len(start.indices)} patterns")


def _round(run: WholeScan, turns: Turns, course: _Course, number: int, unsettled: int) -> WholeScan:
    """Make a pass, and a step of all that takes turns with it."""
    object_, _ = run.stitch(STEPS_OF_A_GLANCE if turns.held else None)
    if run.scan.relative_flux is not None:
        run = flux_step(run, object_)
    if turns.background:
        # Before the probe, which would spread over the detector to make up for a background that is too low.
        run = attrs.evolve(run, background=background_step(run, object_))
    if number < turns.probe and not turns.held:
        last = number == turns.probe - 1 and not turns.more_follow
        run = attrs.evolve(run, probe=likely_probe(run, object_, _LAST_DESCENT if last else _DESCENT))
    elif number < turns.probe or (turns.probe and course.moving):
        for _ in range(_PROBE_STEPS):
            run = attrs.evolve(run, probe=probe_step(run, object_))
    return course.step(run, object_) if course.moving and number >= unsettled else run


class _Course:
    """Positions on their way, as long as they move.

    Attributes:
        moving: whether they still do.
    """

    def __init__(self, start: WholeScan, *, moving: bool) -> None:
        self.moving = moving
        self._given_px = start.positions_px()
        self._rounds = 0

    def step(self, run: WholeScan, object_: Tensor) -> WholeScan:
        """Move the positions of a pass by what they ask for under an object, if that is clear."""
        moves = single_moves(run, object_, run.positions_px() - self._given_px)
        self._rounds += 1
        unclear = self._rounds == 1 and moves.rms_px < _CLEAR_NOISES * moves.noise_px
        # A large scan starts from what its middle has found, and each of its rounds costs more.
        most = max(_FEWEST_ROUNDS, _MOVING_ROUNDS * _PATTERNS // len(moves.px))
        if unclear or moves.rms_px < _SETTLED_PX or self._rounds > min(most, _MOVING_ROUNDS):
            self.moving = False
            return self._better_of_both(run, object_)
        return run.moved(moves.px)

    def result(self, run: WholeScan) -> WholeScan:
        """Give the pass, with its first positions if it was stopped on the way to others that are no better yet."""
        return self._better_of_both(run, run.stitch()[0]) if self.moving else run

    def _better_of_both(self, run: WholeScan, object_: Tensor) -> WholeScan:
        """Give the pass, with the given positions if the present ones do not explain the patterns clearly better."""
        moves = self._given_px - run.positions_px()
        if not moves.any():
            return run
        back = run.moved(moves)
        now, then = (each.around_the_middle(_PATTERNS).glance().deviance for each in (run, back))
        return run if is_clear(then - now, run.judge(object_)) else back


def is_clear(gain: float, after: Judgement) -> bool:
    """Whether a deviance fell by enough for moved positions to be kept.

    A probe that is not yet right pulls positions along; what they then gain is little of what is left unexplained.

    Args:
        gain: by how much it fell.
        after: how well the patterns are explained since.
    """
    return gain > max(_CLEAR_GAIN * (after.excess + gain), _LEAST_GAIN * (after.deviance + gain))


def moves_of_the_stage(places: Tensor, moves: Tensor, others: Tensor) -> Tensor:
    """Moves of other places by the linear map that fits those of some best.

    Args:
        places: (n, 2) float64, of which the moves are known.
        moves: (n, 2) float64.
        others: (m, 2) float64.

    Returns:
        (m, 2) float64.
    """
    middle = places.mean(dim=0)
    known, asked = (torch.cat([each - middle, torch.ones_like(each[:, :1])], dim=1) for each in (places, others))
    fitted: Tensor = asked @ torch.linalg.lstsq(known, moves).solution
    return fitted
