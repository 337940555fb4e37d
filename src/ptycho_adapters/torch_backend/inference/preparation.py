"""What is found out about a scan before the reconstruction itself: background, focus, probe and positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.common.patterns import beam_photons
from ptycho_adapters.torch_backend.finish.stray import Stray, ways_of_the_stage
from ptycho_adapters.torch_backend.inference.autofocus import look_for_focus, refocused
from ptycho_adapters.torch_backend.inference.blur import Blur, blur_of
from ptycho_adapters.torch_backend.inference.frame_flux import with_frame_flux
from ptycho_adapters.torch_backend.inference.hypotheses import (
    Motion,
    Orientation,
    better_orientation,
    fit_in_the_middle,
    misfit_ratio,
    motion_of,
    orthogonal_modes,
    probe_from_patterns,
    with_more_modes,
)
from ptycho_adapters.torch_backend.inference.probe_refinement import dark_level
from ptycho_adapters.torch_backend.inference.stage_fit import fit_stage
from ptycho_adapters.torch_backend.inference.turns import Turns, is_clear, never, refine
from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe

_JUDGED_PATTERNS = 64
_CLEAR_ERRORS = 3.0  # standard errors of the mean gain over the patterns
_LEAST_FOCUS_GAIN = 0.003  # of R: what is less the rounds take along, from a probe that may be right as it is
_POOR_RATIO, _MODES_RATIO = 1.8, 1.2  # of the misfit to that of shot noise, from which on a cause is looked for
_FAINT_MODES_RATIO, _MODES_PER_COUNT = 1.08, 0.004  # where counts are few: ratio, and deviance above noise by count
_TRIAL_ROUNDS = 2
_NOTHING_PER_COUNT = 0.3  # deviance above shot noise for each count: hardly anything is explained
_LITTLE_BETTER = 0.8  # of the misfit: a probe that is merely unrefined gets well below in those rounds
_STAGE_FIT_PATTERNS = (64, 128, 128)  # of each fit, as long as one follows another
_MODES = 3  # of a motion
_BLUR_SHARE, _ANY_BLUR_SHARE = 0.35, 0.1  # of what is above shot noise, for it to be followed
_LEAST_SPREAD_PX, _STAGE_SPREAD_PX = 0.1, 0.3  # of positions in a finish: single ones, and by a stage put right
# Of what is above shot noise, that a flux of each frame has to take away: before the other searches, and after them.
_MOST_OF_IT, _MUCH_OF_IT = 0.5, 0.2
_JUDGED_PROBE_PATTERNS, _MANY_COUNTS = 256, 200.0  # counts for each number of the probe: beyond them noise does no harm
_BETTER = 0.9  # of what is above shot noise, for such modes to be kept
_WORTH_A_LOOK = 0.2  # counts per pixel in the darkest pixels, from which on a background is fitted
_BACKGROUND_TRIAL_ROUNDS = 2
_BACKGROUND_BETTER = 0.95  # of the deviance without, for a background to be kept


Search = Literal["auto", "always", "never"]
PositionRefinement = Literal["none", "affine", "each"]


@attrs.frozen(kw_only=True)
class Preparation:
    """What is to be found out.

    Attributes:
        focus_patterns: that the probe's focus is looked for on, at most; 0 leaves it.
        judged: whether the network is able to say if a change was for the better.
        probe_rounds: rounds of probe refinement.
        new_probe_rounds: the same for a probe that was made out of the mean pattern, and is only about right.
        background_counts: per pixel; None estimates it.
        positions: what of the positions may be moved.
        orientation: when to try whether the positions are mirrored or their axes exchanged.
        probe_search: when to try a probe that is made out of the mean pattern.
        modes: incoherent modes of the probe; None leaves their number, or finds a motion of the beam in a poor fit.
        flux: when to give each frame a flux of its own.
        blur: when to take the patterns for blurred.
        enough: asked before each round of refinement; no more are made once it says so.
    """

    focus_patterns: int
    judged: bool
    probe_rounds: int
    new_probe_rounds: int = attrs.field(default=attrs.Factory(lambda self: self.probe_rounds, takes_self=True))
    background_counts: float | None
    positions: PositionRefinement
    orientation: Search = "never"
    probe_search: Search = "never"
    modes: int | None = None
    flux: Search = "never"
    blur: Search = "never"
    enough: Callable[[], bool] = never


@attrs.frozen(kw_only=True, eq=False)
class Prepared:
    """A pass that is ready, and what was changed on the way.

    Attributes:
        run: the pass.
        orientation: how the positions were turned over; None if they were not.
        probe_replaced: whether the probe is one made out of the mean pattern.
        focus_rad: by how much the probe's focus was changed, root mean square over its angular spectrum.
        focus_gain: by how much that lowered the mean R-factor of the patterns that were looked at.
        given_px: (n, 2) float64, the positions before any was moved; None where it is not known.
        stage_px: (n, 2) float64, those that a right stage would have them at; None where single ones were not moved.
        stage_moved: whether the stage as a whole was put right.
        beam: why it has the modes that it has, a motion within the frames or a blur of the patterns; None if neither.
        faint_blur: one that was seen and not followed.
        probe_refined: whether the probe's pixels were changed.
        probe_stays: whether they were changed back, since that explained no more than noise that is followed.
        given_probe: (modes, N, N) complex, before anything was changed; None where it is not known.
        background_fitted: whether the background was found, not given.
    """

    run: WholeScan
    orientation: Orientation | None = None
    probe_replaced: bool = False
    focus_rad: float = 0.0
    focus_gain: float = 0.0
    given_px: Tensor | None = None
    stage_px: Tensor | None = None
    stage_moved: bool = False
    beam: Motion | Blur | None = None
    faint_blur: Blur | None = None
    probe_refined: bool = False
    probe_stays: bool = False
    given_probe: Tensor | None = None
    background_fitted: bool = False

    @property
    def probe_overlap(self) -> float:
        """Share of the given probe that is left in the modes that there are: 1 where nothing was changed."""
        if self.given_probe is None:
            return 1.0
        given, modes = self.given_probe[0], self.run.probe
        common = (modes.conj() * given).sum(dim=(-2, -1)).abs().square()
        power = modes.abs().square().sum(dim=(-2, -1)) * given.abs().square().sum()
        return float((common / power.clamp_min(torch.finfo(power.dtype).tiny)).sum())

    @property
    def stage_scale(self) -> float:
        """Factor about their middle that brings the given positions nearest to those that were found."""
        if self.given_px is None:
            return 1.0
        given, found = (places - places.mean(dim=0) for places in (self.given_px, self.run.positions_px()))
        extent = float(given.square().sum())
        return float((given * found).sum()) / extent if extent > 0.0 else 1.0

    @property
    def moved_px(self) -> float:
        """Root mean square move of the positions."""
        return 0.0 if self.given_px is None else _rms(self.run.positions_px() - self.given_px)


@torch.no_grad()
def prepare(start: WholeScan, wanted: Preparation) -> Prepared:
    """Find out about a scan what is asked for.

    Args:
        start: network, patterns and the first probe.
        wanted: what to find out.
    """
    level = wanted.background_counts
    darkest = dark_level(start.scan.mean_counts, start.scan.good_pixels)
    fitted = level is None and darkest > _WORTH_A_LOOK
    run = with_background(start, darkest if fitted else level or 0.0)
    given = Prepared(run=attrs.evolve(run, probe=_with_modes(run.probe, wanted.modes)))
    found = _with_flux(_searched(_with_flux(given, wanted, _MOST_OF_IT), wanted), wanted, _MUCH_OF_IT)
    turns = Turns(
        probe=wanted.new_probe_rounds if found.probe_replaced else wanted.probe_rounds,
        background=fitted,
        positions=wanted.positions == "each",
        work="probe and positions" if wanted.positions == "each" else "probe",
        enough=wanted.enough,
    )
    refined, turns = _with_the_background_that_it_needs(refine(found.run, turns), turns)
    still = with_background(found.run, refined.background)
    beam, faint = _beam_of_modes(still, refined, wanted)
    if beam is not None:
        of_modes = refine(attrs.evolve(still, probe=beam.modes), attrs.evolve(turns, work="probe of several modes"))
        better = misfit_ratio(of_modes) - 1.0 < _BETTER * (misfit_ratio(refined) - 1.0)
        refined, beam = (of_modes, beam) if better else (refined, None)
    noise = beam is None and wanted.judged and _follows_noise(refined, still.probe)
    if noise:
        refined = attrs.evolve(refined, probe=still.probe)
    upright = given.run if found.orientation is None else found.orientation.applied(given.run)
    strayed = _rms(refined.positions_px() - found.run.positions_px()) > 0.0
    return attrs.evolve(
        found,
        run=attrs.evolve(with_background(refined, refined.background), probe=orthogonal_modes(refined.probe)),
        given_px=upright.positions_px(),
        stage_px=found.run.positions_px() if strayed else None,
        beam=beam,
        faint_blur=faint,
        probe_refined=wanted.probe_rounds > 0 and not noise and not torch.equal(refined.probe, found.run.probe),
        probe_stays=noise,
        given_probe=given.run.probe,
        background_fitted=fitted,
    )


def stray_of(prepared: Prepared) -> Stray | None:
    """Say what is known of the positions when they are to be found in a finish; None where they were not moved before.

    Single ones that were moved lie around those of the stage as widely as was found; a stage that was put right as a
    whole may be off by a little.
    """
    places = prepared.run.positions_px()
    if prepared.stage_px is not None:
        off = (places - prepared.stage_px).float()
        return Stray(px=off, spread_px=max(_LEAST_SPREAD_PX, float(off.square().mean().sqrt())))
    if prepared.stage_moved:
        still = torch.zeros_like(places, dtype=torch.float32)
        return Stray(px=still, spread_px=_STAGE_SPREAD_PX, ways=ways_of_the_stage(places))
    return None


def _with_flux(found: Prepared, wanted: Preparation, share: float) -> Prepared:
    """Give each frame a flux of its own where that takes away such a share of what is above shot noise, or if asked."""
    if wanted.flux == "never" or wanted.enough():
        return found
    return attrs.evolve(found, run=with_frame_flux(found.run, 0.0 if wanted.flux == "always" else share))


def _rms(moves: Tensor) -> float:
    return float(moves.square().sum(dim=1).mean().sqrt())


def _with_modes(probe: Tensor, modes: int | None) -> Tensor:
    """Bring a probe to the modes that are asked for; some that say the same are one in any case."""
    own = orthogonal_modes(probe)
    return own if modes is None else with_more_modes(own, modes)


def _with_the_background_that_it_needs(refined: WholeScan, turns: Turns) -> tuple[WholeScan, Turns]:
    """Refine without a background where it explains little: deep phases scatter light everywhere as well."""
    if not turns.background or refined.background == 0.0:
        return refined, turns
    few = refined.around_the_middle(_JUDGED_PATTERNS)
    trial = Turns(probe=min(turns.probe, _BACKGROUND_TRIAL_ROUNDS))
    without = refine(with_background(few, 0.0), trial).judge_itself()
    if few.judge_itself().deviance < _BACKGROUND_BETTER * without.deviance:
        return refined, turns
    turns = attrs.evolve(turns, background=False, work="probe without background")
    return refine(with_background(refined, 0.0), turns), turns


def _searched(given: Prepared, wanted: Preparation) -> Prepared:
    """Look for what is wrong altogether: orientation, focus, stage, probe."""
    hopeless = _is_hopeless(given, wanted)
    found = _upright(given) if _looked_for(wanted.orientation, wanted, hopeless=hopeless) else given
    if wanted.focus_patterns:
        found = _focused(found, wanted)
    found = _with_stage(found, wanted)
    if _looked_for(wanted.probe_search, wanted, hopeless=hopeless and _is_hopeless(found, wanted)):
        found = _with_probe_of_patterns(found, wanted)
    return found


def _upright(found: Prepared) -> Prepared:
    """Turn the positions over where the scan as it is explains nothing, and another orientation does."""
    orientation = better_orientation(found.run)
    if orientation is None:
        return found
    return attrs.evolve(found, run=orientation.applied(found.run), orientation=orientation)


def _with_probe_of_patterns(found: Prepared, wanted: Preparation) -> Prepared:
    """Replace the probe where, in any focus, it explains nothing, and one made out of the mean pattern does."""
    probe = probe_from_patterns(found.run)
    if probe is None:
        return found
    replaced = attrs.evolve(found.run, probe=probe)
    new = attrs.evolve(found, run=replaced, probe_replaced=True, focus_rad=0.0, focus_gain=0.0)
    return _with_stage(new, wanted)


def _with_stage(found: Prepared, wanted: Preparation) -> Prepared:
    """Put the stage as a whole right, and the focus with it, as long as that explains much of what is left."""
    for patterns in _STAGE_FIT_PATTERNS:
        if wanted.positions == "none" or wanted.probe_rounds == 0 or wanted.enough():
            break
        tried = refine(found.run.around_the_middle(patterns), Turns(probe=_TRIAL_ROUNDS, held=True))
        errors = fit_stage(tried, thorough=found.focus_rad != 0.0)
        moves = bool(errors.linear.any())
        if not is_clear(errors.gain, errors.without) or not (moves or wanted.focus_patterns):
            break
        focus_rad = found.focus_rad + errors.focus_rad
        stage_moved = found.stage_moved or moves
        found = attrs.evolve(found, run=errors.put_right(found.run), focus_rad=focus_rad, stage_moved=stage_moved)
        if not moves:
            break
    return found


def _looked_for(search: Search, wanted: Preparation, *, hopeless: bool) -> bool:
    return search != "never" and not wanted.enough() and (search == "always" or hopeless)


def _is_hopeless(found: Prepared, wanted: Preparation) -> bool:
    """Tell whether a fit is poor, and explains next to nothing or is left so by a few rounds of the probe.

    Rounds that start from nothing may seem to get somewhere, and do not arrive.
    """
    if "auto" not in (wanted.orientation, wanted.probe_search) or wanted.enough():
        return False
    fit = fit_in_the_middle(found.run)
    poor = fit.misfit_ratio
    if poor <= _POOR_RATIO:
        return False
    if fit.excess > _NOTHING_PER_COUNT * float(found.run.scan.mean_counts.mean()):
        return True
    tried = refine(found.run.around_the_middle(_JUDGED_PATTERNS), Turns(probe=_TRIAL_ROUNDS, held=True))
    return misfit_ratio(tried) > _LITTLE_BETTER * poor


def _beam_of_modes(
    still: WholeScan, refined: WholeScan, wanted: Preparation
) -> tuple[Motion | Blur | None, Blur | None]:
    """Look for what takes modes where a single one, refined, leaves a poor fit, or where they are asked for.

    Returns:
        What is to be followed, and a blur that is there, and is not.
    """
    modes = wanted.modes or (_MODES if len(still.probe) == 1 else 1)
    if modes == 1 or wanted.probe_rounds == 0 or not wanted.judged or wanted.enough():
        return None, None
    if wanted.modes is None and not _lacks_modes(refined):
        return None, None
    # The probe before its refinement, which makes up for a motion as well as it can.
    first = still.probe[:1]
    at_rest = attrs.evolve(refined, probe=first * (light_of(still.probe).sum() / light_of(first).sum()).sqrt())
    motion = motion_of(at_rest, modes)
    blur = None if wanted.blur == "never" else blur_of(at_rest, wanted.modes)
    if blur is not None and blur.share < _ANY_BLUR_SHARE:
        blur = None
    if blur is not None and wanted.blur == "auto" and blur.share < _BLUR_SHARE:
        return motion, blur if motion is None else None
    return max((each for each in (motion, blur) if each is not None), key=lambda each: each.share, default=None), None


def _follows_noise(refined: WholeScan, given: Tensor) -> bool:
    """Tell whether a refined probe explains too little more than one that is free to follow the noise.

    Each number that is fitted is worth it where it raises the logarithm of the likelihood by more than 1, half of which
    noise gives by itself (Akaike 1974, doi:10.1109/TAC.1974.1100705). Where few counts come to each, a probe that is
    about right loses more, and the object with it.

    Args:
        refined: a pass under the refined probe.
        given: (modes, N, N) complex64, before.
    """
    few, unknowns = refined.around_the_middle(_JUDGED_PROBE_PATTERNS), 2.0 * given.numel()
    n = len(few.indices)
    same = given.shape == refined.probe.shape and torch.equal(given, refined.probe)
    if same or n * few.scan.flux > _MANY_COUNTS * unknowns:
        return False
    good = few.scan.good_pixels
    readings = n * (few.scan.size**2 if good is None else float(good.sum()))
    before = attrs.evolve(few, probe=given).judge_itself()
    return readings * (before.deviance - few.judge_itself().deviance) < unknowns


def _lacks_modes(run: WholeScan) -> bool:
    """Tell whether a fit is as poor as a missing mode leaves it: what that adds to the misfit follows the counts."""
    fit, counts = fit_in_the_middle(run), float(run.scan.mean_counts.mean())
    return fit.misfit_ratio >= _MODES_RATIO or (
        fit.misfit_ratio >= _FAINT_MODES_RATIO and fit.excess >= _MODES_PER_COUNT * counts
    )


def with_background(run: WholeScan, background: float) -> WholeScan:
    """The same pass with a background, and the rest of the light in its probe."""
    good = run.scan.good_pixels
    pixels = run.scan.size**2 if good is None else float(good.sum())
    beam = beam_photons(run.scan.flux, background, pixels)
    probe = run.probe * (beam / light_of(run.probe).sum()).sqrt()
    return attrs.evolve(run, probe=probe, background=background)


def _focused(found: Prepared, wanted: Preparation) -> Prepared:
    """Change the focus where some patterns look for it, if a reconstruction of them then explains them better."""
    run = found.run
    probe = TrainableProbe(run.probe.cpu().numpy(), float(light_of(run.probe).sum())).to(run.probe.device)
    few = run.around_the_middle(wanted.focus_patterns).indices.cpu().numpy()
    focus = look_for_focus(probe, run.scan, few, run.background)
    if focus == 0.0:
        return found
    changed = attrs.evolve(run, probe=refocused(probe, focus))
    if not wanted.judged:
        return attrs.evolve(found, run=changed, focus_rad=focus)
    before, after = (each.around_the_middle(_JUDGED_PATTERNS).glance().r_factors for each in (run, changed))
    gains = before - after
    if gains.mean() <= max(_CLEAR_ERRORS * gains.std() / np.sqrt(len(gains)), _LEAST_FOCUS_GAIN * before.mean()):
        return found
    return attrs.evolve(found, run=changed, focus_rad=focus, focus_gain=float(gains.mean()))
