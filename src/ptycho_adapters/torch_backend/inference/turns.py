"""Network and everything else that is unknown about a scan, in turn: probe, background, positions."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal

import attrs
import torch

from ptycho_adapters.torch_backend.bars import counted
from ptycho_adapters.torch_backend.inference.position_refinement import Moves, single_moves, stage_moves
from ptycho_adapters.torch_backend.inference.probe_refinement import background_step, probe_step

if TYPE_CHECKING:
    from torch import Tensor

    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

ROUNDS_BEFORE_A_RECONSTRUCTION, ROUNDS_BEFORE_A_TRAINING = 8, 30
_PATTERNS = 256  # say all about probe and background, however large the scan
_PROBE_STEPS = 3  # per round
_SETTLING_ROUNDS = 2  # before the first look at the positions
_STAGE_ROUNDS, _SINGLE_ROUNDS, _FEWEST_ROUNDS = 14, 12, 3
_LONGEST = _SETTLING_ROUNDS + _STAGE_ROUNDS + _SINGLE_ROUNDS + 2
_BACKGROUND_ROUNDS = 3
_MOMENTUM = 0.7  # of the stage, whose errors the object hides for many rounds
_SETTLED_STAGE_PX, _SETTLED_PX = 0.015, 0.1
_CLEAR_STAGE_PX, _CLEAR_PX, _CLEAR_NOISES = 0.02, 0.1, 3.0  # what a first look has to show for positions to be moved
_CLEAR_GAIN = 0.01  # of the deviance, for moved positions to be kept

PositionRefinement = Literal["none", "affine", "each"]


def never() -> bool:
    """Never enough."""
    return False


@attrs.frozen(kw_only=True)
class Turns:
    """What takes turns with the network, and for how long.

    Attributes:
        probe: rounds of the probe, each a network pass and a few probe steps; 0 leaves the probe as it is.
        background: whether the background is refined with it.
        positions: what may be moved: nothing, the stage as a whole, or each position too.
        show_progress: on standard error.
        enough: asked before each round; no more are made once it says so.
    """

    probe: int
    background: bool = False
    positions: PositionRefinement = "none"
    show_progress: bool = False
    enough: Callable[[], bool] = never


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
    few = start.around_the_middle(_PATTERNS)
    refined = _in_turns(few, turns)
    if few is start:
        return refined
    moves = refined.positions_px() - few.positions_px()
    whole = attrs.evolve(start, probe=refined.probe, background=refined.background)
    if not moves.any():
        return whole
    whole = whole.moved(moves_of_the_stage(few.positions_px(), moves, whole.positions_px()))
    return _in_turns(whole, attrs.evolve(turns, probe=0, background=False), already=start)


def _in_turns(start: WholeScan, turns: Turns, *, already: WholeScan | None = None) -> WholeScan:
    course = _Course(already or start, turns.positions)
    run, for_background = start, _BACKGROUND_ROUNDS if turns.background else 0
    least = max(turns.probe, for_background)
    for number in counted(least + _LONGEST, "probe and positions", shown=turns.show_progress):
        moving = course.phase is not _Phase.DONE
        if turns.enough() or not (moving or number < least):
            break
        object_, _ = run.stitch()
        if turns.probe and (moving or number < turns.probe):
            for _ in range(_PROBE_STEPS):
                run = attrs.evolve(run, probe=probe_step(run, object_))
        if turns.background:
            run = attrs.evolve(run, background=background_step(run, object_))
        if number >= min(_SETTLING_ROUNDS, least):
            run = course.step(run, object_)
    return course.result(run)


class _Phase(Enum):
    STAGE = auto()
    SINGLE = auto()
    DONE = auto()


class _Course:
    """Positions on their way: the stage as a whole first, then each by itself, as long as they move."""

    def __init__(self, start: WholeScan, wanted: PositionRefinement) -> None:
        self.phase = _Phase.DONE if wanted == "none" else _Phase.STAGE
        self._start = start
        self._each = wanted == "each"
        self._stage_px = start.positions_px()
        self._speed: Tensor | None = None
        self._rounds = 0

    def step(self, run: WholeScan, object_: Tensor) -> WholeScan:
        """Move the positions of a pass by what they ask for under an object, if that is clear."""
        if self.phase is _Phase.STAGE:
            return self._with_stage(run, object_)
        if self.phase is _Phase.SINGLE:
            return self._with_each(run, object_)
        return run

    def _with_stage(self, run: WholeScan, object_: Tensor) -> WholeScan:
        moves = stage_moves(run, object_)
        first = self._speed is None
        if self._ends(moves, _CLEAR_STAGE_PX if first else _SETTLED_STAGE_PX, _STAGE_ROUNDS, first=first):
            self.phase = _Phase.SINGLE if self._each else _Phase.DONE
            self._stage_px, self._rounds = run.positions_px(), 0
            return run
        self._speed = moves.px if self._speed is None else moves.px + _MOMENTUM * self._speed
        return run.moved(self._speed)

    def _with_each(self, run: WholeScan, object_: Tensor) -> WholeScan:
        moves = single_moves(run, object_, run.positions_px() - self._stage_px)
        first = self._rounds == 0
        if self._ends(moves, _CLEAR_PX if first else _SETTLED_PX, _SINGLE_ROUNDS, first=first):
            self.phase = _Phase.DONE
            return run
        return run.moved(moves.px)

    def _ends(self, moves: Moves, least_px: float, most_rounds: int, *, first: bool) -> bool:
        self._rounds += 1
        unclear = first and moves.rms_px < _CLEAR_NOISES * moves.noise_px
        # A large scan starts from what its middle has found, and each of its rounds costs more.
        most = max(_FEWEST_ROUNDS, most_rounds * _PATTERNS // len(moves.px))
        return unclear or moves.rms_px < least_px or self._rounds > min(most, most_rounds)

    def result(self, run: WholeScan) -> WholeScan:
        """Give the pass, with its first positions if the others explain the patterns no better."""
        moves = self._start.positions_px() - run.positions_px()
        if not moves.any():
            return run
        back = run.moved(moves)
        return run if _deviance(run) < (1.0 - _CLEAR_GAIN) * _deviance(back) else back


def _deviance(run: WholeScan) -> float:
    return run.judge(run.stitch()[0]).metrics["deviance_per_px"]


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
