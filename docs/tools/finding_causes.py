"""What may be behind a finding, and what to do about it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.measurement.findings import Suspicion

if TYPE_CHECKING:
    from collections.abc import Mapping

CAUSES: Mapping[Suspicion, tuple[str, str]] = MappingProxyType(
    {
        Suspicion.SATURATED: (
            "Many readings share one highest value: the detector counts no further.",
            "Attenuate the beam, or mask those pixels with `--mask`.",
        ),
        Suspicion.DEAD_PIXELS: ("Pixels, rows or a gap between modules that see nothing.", "Nothing: they are masked."),
        Suspicion.STUCK_PIXELS: ("Pixels that say one number whatever falls on them.", "Nothing: they are masked."),
        Suspicion.HOT_PIXELS: (
            "Pixels far brighter than all around, always or now and then.",
            "Nothing: they are masked.",
        ),
        Suspicion.SPIKES: ("Single readings of a cosmic ray or a discharge.", "Nothing: they are replaced."),
        Suspicion.OVERFLOW: ("The largest number of the file's type, which stands for no reading.", "Nothing."),
        Suspicion.NEGATIVE: (
            "A dark level was taken off, and its noise is left.",
            "Nothing, if they are few and small: they are taken for 0.",
        ),
        Suspicion.NOT_FINITE: ("NaN or infinity, as some programs mark bad pixels.", "Nothing: replaced or left out."),
        Suspicion.DARK_FRAMES: ("A shutter or a beam that was off.", "Nothing: left out, with their positions."),
        Suspicion.GLITCHED_FRAMES: ("A read-out that went wrong.", "Nothing: left out, with their positions."),
        Suspicion.NOT_CENTRED: (
            "The light lies beside the middle of the frames, or zero frequency is in the corner.",
            "The beam is found by `infer`; a corner is for `ptycho prepare`, or numpy's `fftshift`.",
        ),
        Suspicion.UNEVEN_FLUX: (
            "The source fades or jumps, or the sample absorbs much in places.",
            "Look at the flux in `ptycho inspect --picture`; leave odd frames out with `ptycho prepare --drop`.",
        ),
        Suspicion.REPEATED_FRAMES: ("A frame was written twice, or a detector hung.", "Look whether positions fit."),
        Suspicion.DUPLICATE_POSITIONS: ("A point was measured twice, or the stage did not move.", "Often nothing."),
        Suspicion.LONELY_POSITIONS: ("Points that share no light with any other.", "Leave them out, or scan closer."),
        Suspicion.LITTLE_OVERLAP: ("The step is wide for the beam.", "Scan closer, or widen the beam by defocus."),
        Suspicion.RASTER: (
            "A perfectly regular grid, which the object can take for its own.",
            "Jitter the points, or take a spiral, next time.",
        ),
        Suspicion.OUTSIDE_OBJECT: ("The file's object is smaller than its positions say.", "Check the pixel size."),
        Suspicion.PROBE_FLUX: ("The probe in the file is on another scale.", "Nothing: it is brought to the light."),
        Suspicion.PROBE_CUT: ("The probe reaches the rim of its array.", "Larger patterns, or a smaller beam."),
        Suspicion.PROBE_LIGHT: (
            "The optics open wider than the light: a length of `--probe-model`, energy, distance or pixel is wrong.",
            "Correct what is wrong. A reconstruction that fits all the same can have the wrong scale.",
        ),
        Suspicion.DECLARED_FLUX: ("The file states other photons than its frames hold.", "Check which is right."),
        Suspicion.BEAM_MOVED: (
            "The direct beam was beside the middle of the frames.",
            "Nothing: put right. `--no-beam-search` leaves it.",
        ),
        Suspicion.FOCUS_MOVED: (
            "The probe of the file is out of focus.",
            "Nothing: put right. `--no-probe-autofocus` leaves it.",
        ),
        Suspicion.BACKGROUND: (
            "Light that does not come from the sample.",
            "Nothing: it is part of the model. `--background-counts` states it.",
        ),
        Suspicion.POSITIONS_REFINED: (
            "A stage that is inexact, turned or on another scale.",
            "Nothing: put right. `--position-refinement none` leaves it.",
        ),
        Suspicion.ORIENTATION: (
            "Axes of positions and frames do not go together.",
            "Nothing: put right, and to be mended in the file. `--orientation-search never` leaves it.",
        ),
        Suspicion.PROBE_REPLACED: (
            "The probe explained nothing in any focus.",
            "Give a better one, `--probe FILE` or `--probe-model`. `--probe-search never` keeps it.",
        ),
        Suspicion.PROBE_CHANGED: (
            "The optics are not as they were described, or the probe is that of another day.",
            "Compare both in the report. Where the lengths are in doubt, so are the scale of the object and the focus.",
        ),
        Suspicion.PROBE_MODES: (
            "The beam moved within the frames, as in a fly scan; or the patterns are blurred by source or detector.",
            "Nothing: modes were added. `--probe-modes 1` leaves it at one.",
        ),
        Suspicion.FRAME_FLUX: (
            "The source flickers, the shutter is late, or frames were exposed for different times.",
            "Nothing: each frame has its flux. `--flux-search never` takes them for alike.",
        ),
        Suspicion.POOR_FIT: (
            "Object, probe and positions leave far more than shot noise.",
            "Read the other findings first; then probe, distances and orientation.",
        ),
        Suspicion.ERROR_BARS: (
            "A finish that did not settle, or an object that is not where it is thought to be.",
            "Do not go by the bars; more steps, `--finish 40`, may settle it.",
        ),
        Suspicion.PRIOR_UNKNOWN: (
            "The training of the model began from random weights, of which nobody measured how much they err.",
            "Take the bars for a guess; `--initial-weights generalist` starts from weights of which it is known.",
        ),
    }
)
