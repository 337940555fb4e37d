"""Errors of the stage as a whole, found together with the focus of the probe, which makes up for them almost.

Each change of scale, rotation, shear or focus is judged by an object that the network makes anew under it: an object
that is held would hide most of the change. Gauss-Newton steps on the amplitudes that are left, with derivatives by
differences, get to the least misfit (variable projection, Golub & Pereyra 1973, doi:10.1137/0710036).
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ptycho_adapters.common.candidates import Judgement
from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_adapters.torch_backend.physics.probe import aberration_basis

_DIFFERENCES = (0.005, 0.005, 0.005, 0.005, 0.1)  # of the four numbers of the map, and of the focus in radians
_LONGEST_STEP = 10.0  # of those
_STEPS, _DOUBLINGS = 4, 4  # differences fluctuate, so that a step comes out too short
_VALLEY_STEP = 2.0  # of the differences
_DAMPING = 1e-3  # of the curvature along each number
_LITTLE = 0.1  # of the gain: what a part of the errors is left out for
_PARTS = (  # orthonormal directions that belong together: focus, scale, shear, rotation
    ((0.0, 0.0, 0.0, 0.0, 1.0),),
    ((1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0, 0.0)),
    ((0.0, 0.5**0.5, 0.5**0.5, 0.0, 0.0),),
    ((0.0, 0.5**0.5, -(0.5**0.5), 0.0, 0.0),),
)
_SETTLED, _BARELY = 0.05, 0.01  # of what is left above shot noise: gains below which no step follows, none goes on


@attrs.frozen(kw_only=True, eq=False)
class StageErrors:
    """What is wrong with a stage, and with the focus that was taken for right with it.

    Attributes:
        linear: (2, 2) float64; times a position's offset (y, x) from the mean position, what it has to be moved by.
        focus_rad: by which the probe's focus has to be changed, root mean square over its angular spectrum.
        gain: by how much the deviance falls without them.
        without: how well the patterns are explained without them.
    """

    linear: Tensor
    focus_rad: float
    gain: float
    without: Judgement

    def put_right(self, run: WholeScan) -> WholeScan:
        """Give a pass without them: positions moved about their mean, the probe refocused."""
        return _changed(run, torch.cat([self.linear.flatten().cpu(), torch.tensor([self.focus_rad])]), _focus(run))


def fit_stage(run: WholeScan, *, thorough: bool = False) -> StageErrors:
    """Find the linear map of all positions and the focus under which the network leaves least.

    Args:
        run: a pass over some patterns, with a probe that is about right.
        thorough: follow the valley in which a scale makes up for a focus, even where no step shows the way.
    """
    trials = _Trials(run, _focus(run))
    at = torch.zeros(len(_DIFFERENCES), dtype=torch.float64)
    before = run.judge_itself()
    first = judgement = trials.glance(at)
    # What only the steps that a glance leaves out explain is no error of the stage.
    out_of_sight = first.deviance - before.deviance
    for number in range(_STEPS):
        last = judgement
        left = abs(last.excess - out_of_sight)
        step, valley = _ways(trials.changed(at), trials.focus)
        at, judgement = _along(trials, (at, last), step, _BARELY * left)
        if number == 0 and (thorough or last.deviance - judgement.deviance > _SETTLED * left):
            for way in (valley, -valley):
                at, judgement = _along(trials, (at, judgement), way, _BARELY * left)
        if last.deviance - judgement.deviance <= _SETTLED * left:
            break
    at = _needed(trials, at, judgement.deviance + _LITTLE * (first.deviance - judgement.deviance))
    after = trials.changed(at).judge_itself() if at.any() else before
    gain = before.deviance - after.deviance
    return StageErrors(linear=at[:4].reshape(2, 2), focus_rad=float(at[4]), gain=gain, without=after)


@attrs.frozen
class _Trials:
    """A pass with its stage and focus changed, looked at by glances.

    Attributes:
        run: the pass as it is.
        focus: (N, N), phase of one radian of focus.
    """

    run: WholeScan
    focus: Tensor

    def changed(self, at: Tensor) -> WholeScan:
        return _changed(self.run, at, self.focus)

    def glance(self, at: Tensor) -> Judgement:
        return self.changed(at).glance()


def _needed(trials: _Trials, errors: Tensor, most: float) -> Tensor:
    """Leave out focus, scale, shear and rotation in turn, wherever the deviance stays low enough without."""
    for part in _PARTS:
        direction = torch.tensor(part, dtype=torch.float64)
        share = direction @ errors
        without = errors - direction.T @ share
        if share.any() and trials.glance(without).deviance <= most:
            errors = without
    return errors


def _along(trials: _Trials, start: tuple[Tensor, Judgement], way: Tensor, barely: float) -> tuple[Tensor, Judgement]:
    """Go a way for as long as going twice as far is clearly better still; nowhere if the way itself is no better."""
    at, judgement = start
    best = at
    for doubling in range(_DOUBLINGS):
        tried = at + 2.0**doubling * way
        then = trials.glance(tried)
        gained = judgement.deviance - then.deviance
        if gained <= 0:
            break
        best, judgement = tried, then
        if gained < barely:
            break
    return best, judgement


def _ways(run: WholeScan, focus: Tensor) -> tuple[Tensor, Tensor]:
    """A Gauss-Newton step of all numbers, and a larger scale with the focus that makes up for it best; both (5,)."""
    expected, measured = run.amplitudes_at_a_glance()
    left = (measured - expected).double()
    slopes = []
    for number, difference in enumerate(_DIFFERENCES):
        change = torch.zeros(len(_DIFFERENCES), dtype=torch.float64)
        change[number] = difference
        # In units of the differences, which makes the damping and the limit the same for all.
        slopes.append((_changed(run, change, focus).amplitudes_at_a_glance()[0] - expected).double())
    matrix = torch.stack([torch.stack([(a * b).sum() for b in slopes]) for a in slopes]).cpu()
    vector = torch.stack([(each * left).sum() for each in slopes]).cpu()
    least = torch.finfo(torch.float64).tiny
    damped = matrix + _DAMPING * torch.diag(matrix.diagonal().clamp_min(least))
    step: Tensor = torch.linalg.solve(damped, vector).clamp(-_LONGEST_STEP, _LONGEST_STEP)
    valley = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    valley[4] = -float(matrix[4] @ valley / matrix[4, 4].clamp_min(least))
    units = torch.tensor(_DIFFERENCES, dtype=torch.float64)
    return step * units, _VALLEY_STEP * valley * units


def _changed(run: WholeScan, change: Tensor, focus: Tensor) -> WholeScan:
    places = run.positions_px()
    offset = places - places.mean(dim=0)
    phase = float(change[4]) * focus
    probe = torch.fft.ifft2(torch.fft.fft2(run.probe) * torch.polar(torch.ones_like(phase), phase))
    probe = probe * (light_of(run.probe).sum() / light_of(probe).sum()).sqrt()
    linear = change[:4].reshape(2, 2).to(device=offset.device, dtype=offset.dtype)
    return attrs.evolve(run.moved(offset @ linear.T), probe=probe)


def _focus(run: WholeScan) -> Tensor:
    """Phase of one radian of focus over the probe's angular spectrum, (N, N)."""
    return aberration_basis(run.probe.cpu())[0].to(run.probe.device)
