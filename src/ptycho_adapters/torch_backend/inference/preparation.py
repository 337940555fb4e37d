"""What is found out about a scan before the reconstruction itself: background, focus, probe and positions."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import torch

from ptycho_adapters.torch_backend.inference.autofocus import look_for_focus, refocused
from ptycho_adapters.torch_backend.inference.probe_refinement import dark_level
from ptycho_adapters.torch_backend.inference.turns import PositionRefinement, Turns, never, refine
from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe

_JUDGED_PATTERNS = 64
_CLEAR_ERRORS = 3.0  # standard errors of the mean gain over the patterns
_LEAST_BEAM_SHARE = 0.05  # of all light
_WORTH_A_LOOK = 0.2  # counts per pixel in the darkest pixels, from which on a background is fitted


@attrs.frozen(kw_only=True)
class Preparation:
    """What is to be found out.

    Attributes:
        autofocus: look for the probe's focus.
        judged: whether the network is able to say if a change of focus was for the better.
        probe_rounds: rounds of probe refinement.
        background_counts: per pixel; None estimates it.
        positions: what of the positions may be moved.
        show_progress: on standard error.
        enough: asked before each round of refinement; no more are made once it says so.
    """

    autofocus: bool
    judged: bool
    probe_rounds: int
    background_counts: float | None
    positions: PositionRefinement
    show_progress: bool = False
    enough: Callable[[], bool] = never


@attrs.frozen(kw_only=True, eq=False)
class Prepared:
    """A pass that is ready, and what was changed on the way.

    Attributes:
        run: the pass.
        focus_rad: by how much the probe's focus was changed, root mean square over its angular spectrum.
        focus_gain: by how much that lowered the mean R-factor of the patterns that were looked at.
        moved_px: root mean square move of the positions.
        probe_refined: whether the probe's pixels were changed.
    """

    run: WholeScan
    focus_rad: float = 0.0
    focus_gain: float = 0.0
    moved_px: float = 0.0
    probe_refined: bool = False


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
    focused = _focused(run, judged=wanted.judged) if wanted.autofocus else Prepared(run=run)
    turns = Turns(
        probe=wanted.probe_rounds,
        background=fitted,
        positions=wanted.positions,
        show_progress=wanted.show_progress,
        enough=wanted.enough,
    )
    refined = refine(focused.run, turns)
    moves = refined.positions_px() - run.positions_px()
    moved = float(moves.square().sum(dim=1).mean().sqrt())
    run = with_background(refined, refined.background)
    return attrs.evolve(focused, run=run, moved_px=moved, probe_refined=wanted.probe_rounds > 0)


def with_background(run: WholeScan, background: float) -> WholeScan:
    """The same pass with a background, and the rest of the light in its probe."""
    good = run.scan.good_pixels
    pixels = run.scan.size**2 if good is None else float(good.sum())
    beam = max(run.scan.flux - background * pixels, _LEAST_BEAM_SHARE * run.scan.flux)
    probe = run.probe * (beam / light_of(run.probe).sum()).sqrt()
    return attrs.evolve(run, probe=probe, background=background)


def _focused(run: WholeScan, *, judged: bool) -> Prepared:
    """Change the focus where some patterns look for it, if a reconstruction of them then explains them better."""
    probe = TrainableProbe(run.probe.cpu().numpy(), float(light_of(run.probe).sum())).to(run.probe.device)
    focus = look_for_focus(probe, run.scan, run.indices.cpu().numpy(), run.background)
    if focus == 0.0:
        return Prepared(run=run)
    changed = refocused(probe, focus)
    if not judged:
        return Prepared(run=attrs.evolve(run, probe=changed), focus_rad=focus)
    few = run.around_the_middle(_JUDGED_PATTERNS)
    before, after = (each.judge(each.stitch()[0]).r_factors for each in (few, attrs.evolve(few, probe=changed)))
    gains = before - after
    if gains.mean() <= _CLEAR_ERRORS * gains.std() / np.sqrt(len(gains)):
        return Prepared(run=run)
    return Prepared(run=attrs.evolve(run, probe=changed), focus_rad=focus, focus_gain=float(gains.mean()))
