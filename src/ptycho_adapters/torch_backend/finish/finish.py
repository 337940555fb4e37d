"""From the network's object to the most likely one, a few steps, as long as pixels that have no say agree."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import attrs
import torch
from torch import Tensor

from ptycho_adapters.common.bars import counted
from ptycho_adapters.common.prior_law import PriorLaw
from ptycho_adapters.common.shipped import shipped_prior_law
from ptycho_adapters.stages import say, stage
from ptycho_adapters.torch_backend.finish.beside import Beside
from ptycho_adapters.torch_backend.finish.curvature import Curvature
from ptycho_adapters.torch_backend.finish.descent import Descent, Place, line_search
from ptycho_adapters.torch_backend.finish.error_bars import ErrorBars, counts_variances, error_bars
from ptycho_adapters.torch_backend.finish.point import Point
from ptycho_adapters.torch_backend.finish.posterior import LEFT_OUT, Measured, Posterior
from ptycho_adapters.torch_backend.finish.prior import Prior, Weights, around
from ptycho_adapters.torch_backend.finish.slow_waves import SlowWaves
from ptycho_adapters.torch_backend.finish.stray import Stray
from ptycho_adapters.torch_backend.finish.tents import Tents
from ptycho_adapters.torch_backend.finish.thinning import ThinningCheck, apart

if TYPE_CHECKING:
    from collections.abc import Callable


_MOST_STEPS, _MOST_STEPS_MOVING = 20, 40  # the latter where positions move too
_SETTLED = 2e-3  # of the misfit per unknown: a step that gains less is the last
_CLEAR_ERRORS = 2.0  # of the change of what was left out: more than that to the worse is one
_LIT = 0.1  # of the largest light: pixels that are counted as unknowns
_DARK = 1e-3  # photons per pixel; keeps the prior's weight from vanishing
_FIRST_RIDGE, _RIDGE = 1e-5, 0.1  # of the slow waves' matrix: by itself, and beside the one by pixels


@attrs.frozen(kw_only=True, eq=False)
class Finished:
    """Where a finish came to.

    Attributes:
        object: (pixels,) complex64.
        probe: (modes, N, N) complex64.
        moves_px: (n, 2) float32 by which each pattern was moved; None where positions were taken as they are.
        background: counts per pixel that do not come from the beam.
        steps: how many were made; the start is handed back where it is 0.
        gain: by how much the half deviance of the pixels that were left out fell, in all; negative where it rose by no
            more than noise explains; None if none were.
        refused: by how much it was above that of the start at a place that they refused; None if they refused none.
        error_bars: of the object; None if they were not asked for.
        check: of the error bars; None if it was not asked for.
    """

    object: Tensor
    probe: Tensor
    moves_px: Tensor | None
    background: float
    steps: int
    gain: float | None
    refused: float | None = None
    error_bars: ErrorBars | None = None
    check: ThinningCheck | None = None


@attrs.frozen(kw_only=True)
class Wish:
    """How a finish is to be made.

    Attributes:
        steps: how many; auto leaves some pixels out of the fit and goes on until it is settled. Where they get worse
            than noise that is followed makes them, object and probe cannot explain the patterns: then the place that
            they like best is taken, which may be the start.
        refine_probe: whether the probe is finished too.
        error_bars: whether to say how far the object may be off.
        check_error_bars: whether to hold them against two halves of the counts.
        refine_background: whether the background is finished too, if there is one.
        stray: what is known of the positions, to finish them too; None takes them as they are.
        law: by which the network errs; by default the shipped one's.
    """

    steps: int | Literal["auto"]
    refine_probe: bool
    error_bars: bool = False
    check_error_bars: bool = False
    refine_background: bool = False
    stray: Stray | None = None
    law: PriorLaw = attrs.field(factory=shipped_prior_law)

    @property
    def most_steps(self) -> int:
        """How many there may be."""
        if self.steps == "auto":
            return _MOST_STEPS if self.stray is None else _MOST_STEPS_MOVING
        return self.steps


def finish(measured: Measured, object_: Tensor, probe: Tensor, wish: Wish) -> Finished:
    """Take a network's object to the most likely one under the counts, with itself as a prior.

    Args:
        measured: the patterns.
        object_: (pixels,) complex64, the network's.
        probe: (modes, N, N) complex64, at the scan's flux.
        wish: how.

    Returns:
        Object and probe in the same scale; the start itself where no step is better.
    """
    held_out = wish.steps == "auto"
    posterior = posterior_around(measured, object_, probe, wish)
    first = _first(measured, object_, probe, wish)
    start = Place(first, posterior.look(first))
    course = _Course(posterior, start)
    most = wish.most_steps
    for number in counted(most, "finish"):
        if not course.step(judged=held_out):
            break
        say("finish step", {"number": number + 1}, level=logging.DEBUG)
    place, made = course.result()
    gain = _left_out(start) - _left_out(place)
    bars = None
    if wish.error_bars:
        with stage("error bars", patterns=len(measured.indices)):
            bars = error_bars(posterior, place.point)
    check = None
    if wish.check_error_bars:
        with stage("check of the error bars", patterns=len(measured.indices)):
            check = thinning_check(measured, object_, place.point, wish)
    return Finished(
        object=place.point.object,
        probe=place.point.probe,
        moves_px=place.point.moves,
        background=float(posterior.background(place.point)),
        steps=made,
        gain=gain if held_out else None,
        refused=course.refused,
        error_bars=bars,
        check=check,
    )


def thinning_check(measured: Measured, start: Tensor, point: Point, wish: Wish) -> ThinningCheck:
    """Finish two independent halves of the counts from the same object, and hold their difference against the bars.

    Args:
        measured: the patterns.
        start: (pixels,) complex64, the network's object.
        point: what a finish of all counts came to; probe, positions and background are taken from there.
        wish: how that was made.
    """
    scan = measured.scan if point.moves is None else measured.scan.nudged(measured.indices, point.moves)
    background, probe = measured.background, point.probe / 2.0**0.5
    if point.dark is not None:
        background *= float(point.dark.exp())
    alone = Wish(steps=_MOST_STEPS, refine_probe=False, law=wish.law)
    found = []
    for half in (0, 1):
        part = attrs.evolve(measured, scan=scan.thinned(half), background=background / 2.0)
        found.append((part, finish(part, start, probe, alone).object))
    (part, first), (_, second) = found
    curvature = Curvature(posterior_around(part, start, probe, alone), Point(first, probe))
    return apart(curvature, second, counts_variances(curvature))


class _Course:
    """Slow waves first, then everything.

    Attributes:
        place: the last place that was accepted.
        steps: how many were.
        refused: by how much the half deviance of what was left out rose over the start's at a place that was not taken.
    """

    def __init__(self, posterior: Posterior, start: Place) -> None:
        self._start = self.place = self._best = start
        self.steps = self._best_steps = 0
        self.refused: float | None = None
        self._posterior = posterior
        self._light = posterior.light(start.point.probe)
        self._beside = Beside(posterior, start.point)
        lit = self._light > _LIT * self._light.max()
        # What the prior knows is not free to follow the noise.
        free = posterior.prior.weights.plus(self._light)
        self._unknowns = sum(float((self._light / each)[lit].sum()) for each in (free.along, free.across))
        self._unknowns += self._beside.unknowns
        if posterior.refine_probe:
            self._unknowns += 2.0 * start.point.probe.numel()
        self._descent: Descent | None = None

    def step(self, *, judged: bool) -> bool:
        """Make a step; False if it was the last, or was not taken."""
        if self._descent is None:
            self._descent = self._after_the_slow_waves()
        before = self.place
        if not self._descent.step():
            return False
        after = self._descent.place
        if judged and self._worse(after):
            self.refused = _left_out(after) - _left_out(self._start)
            return False
        self.place, self.steps = after, self.steps + 1
        if _left_out(after) < _left_out(self._best):
            self._best, self._best_steps = self.place, self.steps
        return not judged or before.look.misfit - after.look.misfit > _SETTLED * self._unknowns

    def result(self) -> tuple[Place, int]:
        """Give the last place, or, if the pixels that were left out refused one on the way, the one they like best."""
        if self.refused is None and self._worse(self.place, errors=0.0):
            self.refused = _left_out(self.place) - _left_out(self._start)
        return (self.place, self.steps) if self.refused is None else (self._best, self._best_steps)

    def _worse(self, place: Place, errors: float = _CLEAR_ERRORS) -> bool:
        """Tell whether the pixels that were left out got worse than they do when the others' noise is followed.

        A fit with as many unknowns lowers the half deviance of what it sees by half of their number, and raises that of
        as much that it does not see by as much.
        """
        change = place.look.left_out - self._start.look.left_out
        noise = float(change.std(correction=0)) * len(change) ** 0.5
        return bool(float(change.sum()) > errors * noise + LEFT_OUT * self._unknowns / 2.0)

    def _after_the_slow_waves(self) -> Descent:
        alone = SlowWaves(self._posterior, self.place.point).solver(_FIRST_RIDGE)
        slope = self.place.look.slope
        ahead = attrs.evolve(slope.times(0.0), object=-alone(slope.object))
        lower = line_search(self._posterior.look, self.place, ahead, 1.0) or self.place
        beside = SlowWaves(self._posterior, lower.point).solver(_RIDGE)
        return Descent(self._posterior.look, lower, self._curved(beside))

    def _curved(self, slow: Callable[[Tensor], Tensor]) -> Callable[[Point], Point]:
        prior, light, beside = self._posterior.prior, self._light, self._beside
        # Each pattern lights the probe with an object of about 1.
        patterns = len(self._posterior.measured.indices)
        return lambda slope: Point(
            prior.divided(slope.object, light) + slow(slope.object),
            slope.probe / patterns,
            beside.moves(slope.moves),
            beside.dark(slope.dark),
        )


def _first(measured: Measured, object_: Tensor, probe: Tensor, wish: Wish) -> Point:
    moves = None if wish.stray is None else torch.zeros_like(wish.stray.px)
    free = wish.refine_background and measured.background > 0.0
    return Point(object_, probe, moves, torch.zeros((), device=probe.device) if free else None)


def _left_out(place: Place) -> float:
    return float(place.look.left_out.sum())


def posterior_around(measured: Measured, object_: Tensor, probe: Tensor, wish: Wish) -> Posterior:
    """Build the likelihood of all counts with a network's object (pixels,) complex64 as a prior."""
    unknown = Prior(object=object_, weights=Weights.same(torch.zeros_like(object_.real)))
    held_out = wish.steps == "auto"
    posterior = Posterior(
        measured=measured,
        prior=unknown,
        refine_probe=wish.refine_probe,
        held_out=held_out,
        stray=wish.stray,
    )
    light = posterior.light(probe).clamp_min(_DARK)
    typical = float(light[light > _LIT * light.max()].mean())
    tents = Tents(measured.canvas, measured.scan.size, object_.device)
    return attrs.evolve(posterior, prior=around(object_, light, typical, tents, wish.law))
