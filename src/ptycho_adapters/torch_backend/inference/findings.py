"""What a reconstruction found out about its scan, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.common.findings import beam_moved, poor_fit
from ptycho_adapters.torch_backend.finish.thinning import ThinningCheck
from ptycho_adapters.torch_backend.inference.blur import Blur
from ptycho_adapters.torch_backend.inference.frame_flux import flux_spread
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_core.measurement.findings import Finding, Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_adapters.torch_backend.inference.hypotheses import Motion
    from ptycho_adapters.torch_backend.inference.preparation import Prepared

_WORTH_SAYING = 0.1  # counts per pixel
_ANOTHER_SCALE = 0.005  # of the positions
_ANOTHER_PROBE = 0.5  # overlap with the one given, below which it is called another one


def findings_of(prepared: Prepared, metrics: Mapping[str, float], *, law_known: bool = True) -> Iterator[Finding]:
    """Yield what was put right, and whether the fit is poor all the same; that comes first.

    Args:
        prepared: the pass and what was changed.
        metrics: of the reconstruction.
        law_known: whether a finish, if there was one, knew the law by which this network errs.
    """
    poor = tuple(poor_fit(metrics))
    yield from poor
    yield from _of_the_positions(prepared, kept="the result holds given and refined ones")
    yield from _of_the_light(prepared, poor=bool(poor))
    yield from _of_the_error_bars(metrics)
    if not law_known:
        text = (
            "by which law this network errs is not known, since its training started from none that has one; the "
            "finish went by that of the shipped network, and so do error bars"
        )
        yield Finding(kind=Suspicion.PRIOR_UNKNOWN, text=text)


def findings_before_a_training(prepared: Prepared) -> Iterator[Finding]:
    """Yield what was put right before the first step."""
    yield from _of_the_positions(prepared, kept="the training takes the refined ones")
    yield from _of_the_light(prepared, poor=False)


def _of_the_error_bars(metrics: Mapping[str, float]) -> Iterator[Finding]:
    phase, amplitude = (metrics.get(f"halves_apart_{name}_in_bars") for name in ("phase", "amplitude"))
    if phase is not None and amplitude is not None and ThinningCheck(phase=phase, amplitude=amplitude).wrong:
        text = (
            f"the error bars are wrong: two independent halves of the counts lead apart by {phase:.2g} of what they "
            f"say in phase and {amplitude:.2g} in amplitude, where 1 is right"
        )
        yield Finding(kind=Suspicion.ERROR_BARS, text=text)


def _of_the_positions(prepared: Prepared, *, kept: str) -> Iterator[Finding]:
    if prepared.orientation is not None:
        text = (
            f"orientation of the positions: {prepared.orientation}; the patterns fit clearly better that way, and were "
            "taken so (--orientation-search never leaves them as given)"
        )
        yield Finding(kind=Suspicion.ORIENTATION, text=text)
    if prepared.moved_px:
        scale = prepared.stage_scale
        scaled = f", on the whole scaled by {scale:.3f}" if abs(scale - 1.0) > _ANOTHER_SCALE else ""
        text = (
            f"positions were refined: moved by {prepared.moved_px:.2g} px (root mean square){scaled}; {kept} "
            "(--position-refinement none leaves them as given)"
        )
        yield Finding(kind=Suspicion.POSITIONS_REFINED, text=text)


def _of_the_light(prepared: Prepared, *, poor: bool) -> Iterator[Finding]:
    run = prepared.run
    yield from beam_moved(run.scan.beam_px)
    if prepared.probe_replaced:
        text = (
            "the probe explains nothing; it was replaced by one made out of the mean pattern, with the focus that "
            "fits best (--probe-search never keeps it)"
        )
        yield Finding(kind=Suspicion.PROBE_REPLACED, text=text)
    if prepared.focus_rad:
        gain = f", which lowered R by {prepared.focus_gain:.2g}" if prepared.focus_gain else ""
        text = f"the probe's focus was moved by {prepared.focus_rad:.2g} rad (root mean square){gain}"
        yield Finding(kind=Suspicion.FOCUS_MOVED, text=text)
    elif not prepared.probe_replaced and prepared.probe_overlap < _ANOTHER_PROBE:
        text = (
            f"the probe that the patterns ask for is another than the one given: they overlap by "
            f"{prepared.probe_overlap:.0%}. Are its lengths right, and energy, distance and detector pixel? The fit "
            "cannot tell; the scale of the object may be off"
        )
        yield Finding(kind=Suspicion.PROBE_CHANGED, text=text)
    spread = flux_spread(run)
    if spread:
        text = (
            f"the flux differs from frame to frame by {spread:.2g} of its mean (standard deviation); each frame was "
            "given its own (--flux-search never takes them for alike)"
        )
        yield Finding(kind=Suspicion.FRAME_FLUX, text=text)
    if prepared.beam is not None:
        yield Finding(kind=Suspicion.PROBE_MODES, text=f"{_said_of(prepared.beam)}: {_shares(prepared)}")
    elif prepared.faint_blur is not None:
        faint = prepared.faint_blur
        text = (
            f"the patterns may be blurred by about {faint.width_px:g} px: at a first look a few modes of the beam take "
            f"{faint.share:.0%} of what is above shot noise (--blur-search always follows it, which takes long)"
        )
        yield Finding(kind=Suspicion.PROBE_MODES, text=text)
    if prepared.background_fitted and run.background > _WORTH_SAYING:
        text = f"background of {run.background:.3g} counts per pixel, found in the fit of the patterns"
        if poor:
            text += "; as the fit is poor, light that it cannot explain may be in there (--background-counts gives it)"
        yield Finding(kind=Suspicion.BACKGROUND, text=text)


def _said_of(beam: Motion | Blur) -> str:
    if isinstance(beam, Blur):
        return (
            f"the patterns seem to be blurred by about {beam.width_px:g} px (standard deviation), by a source that is "
            "not quite coherent or a detector that spreads its counts"
        )
    angle = np.degrees(beam.angle_rad)
    return f"the beam seems to move within each frame, by about {beam.length_px:g} px at {angle:.0f}° from x towards y"


def _shares(prepared: Prepared) -> str:
    power = light_of(prepared.run.probe[:, None]).sum(dim=(-2, -1))
    shares = " ".join(f"{share:.0%}" for share in (power / power.sum()).tolist())
    return f"{len(power)} incoherent modes hold {shares} of the light"
