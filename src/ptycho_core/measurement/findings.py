"""What may be wrong with a scan or a fit, in words: the one kind of remark that is passed on to people and files."""

from __future__ import annotations

from enum import StrEnum

import attrs


class Suspicion(StrEnum):
    """Kinds of findings."""

    SATURATED = "saturated"
    DEAD_PIXELS = "dead_pixels"
    STUCK_PIXELS = "stuck_pixels"
    HOT_PIXELS = "hot_pixels"
    SPIKES = "spikes"
    OVERFLOW = "overflow"
    NEGATIVE = "negative"
    NOT_FINITE = "not_finite"
    DARK_FRAMES = "dark_frames"
    GLITCHED_FRAMES = "glitched_frames"
    NOT_CENTRED = "not_centred"
    UNEVEN_FLUX = "uneven_flux"
    REPEATED_FRAMES = "repeated_frames"
    DUPLICATE_POSITIONS = "duplicate_positions"
    LONELY_POSITIONS = "lonely_positions"
    LITTLE_OVERLAP = "little_overlap"
    RASTER = "raster"
    OUTSIDE_OBJECT = "outside_object"
    PROBE_FLUX = "probe_flux"
    PROBE_CUT = "probe_cut"
    PROBE_LIGHT = "probe_light"
    DECLARED_FLUX = "declared_flux"
    BEAM_MOVED = "beam_moved"
    FOCUS_MOVED = "focus_moved"
    FRAME_FLUX = "frame_flux"
    BACKGROUND = "background"
    POSITIONS_REFINED = "positions_refined"
    ORIENTATION = "orientation"
    PROBE_REPLACED = "probe_replaced"
    PROBE_MODES = "probe_modes"
    PROBE_CHANGED = "probe_changed"
    POOR_FIT = "poor_fit"
    ERROR_BARS = "error_bars"
    PRIOR_UNKNOWN = "prior_unknown"


@attrs.frozen(kw_only=True)
class Finding:
    """Something that may be wrong, or that was put right.

    Attributes:
        kind: for machines.
        text: what was seen and what it may mean or what was done, for people.
    """

    kind: Suspicion
    text: str

    def to_json(self) -> dict[str, str]:
        """Give the finding as a row of a file."""
        return {"kind": str(self.kind), "text": self.text}

    @classmethod
    def from_json(cls, row: object) -> Finding:
        """Read what `to_json` gave; what else is in the row is left.

        Raises:
            ValueError: it is no finding of a known kind.
        """
        kind, text = (row.get("kind"), row.get("text")) if isinstance(row, dict) else (None, None)
        if kind not in tuple(Suspicion) or not isinstance(text, str):
            msg = f"expected a finding of a known kind, with a text; found {row!r}"
            raise ValueError(msg)
        return cls(kind=Suspicion(kind), text=text)
