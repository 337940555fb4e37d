"""What is to be done to measured frames and positions, as one value."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TypeVar, cast

import attrs

from ptycho_core.errors import ConfigError, Problem, raise_if_any
from ptycho_core.measurement.preparation.selection import frame_ranges

_SMALLEST_PX, _LARGEST_PX, _LARGEST_BIN = 16, 2048, 64

Kind = TypeVar("Kind", bound=StrEnum)


class Flip(StrEnum):
    """Which axes of a frame, or of the positions, run the other way."""

    NONE = "none"
    ROWS = "rows"
    COLUMNS = "columns"
    BOTH = "both"


class Negatives(StrEnum):
    """What becomes of values below 0."""

    ZERO = "zero"
    KEEP = "keep"


def _member(kind: type[Kind], value: str) -> Kind:
    """The member of that name; an unknown name passes, so that it is reported together with all other problems."""
    return kind(value) if value in list(kind) else cast("Kind", value)


def _flip(value: str) -> Flip:
    return _member(Flip, value)


def _negatives(value: str) -> Negatives:
    return _member(Negatives, value)


@attrs.frozen(kw_only=True)
class PreparationSettings:
    """Steps of a preparation, in the order in which they are done.

    Attributes:
        drop: frames to leave out, such as "3,7,10-20"; numbers count from 0.
        drop_odd: also leave out frames that are dark or far brighter than the others.
        background: counts per pixel to take off every frame, beside a dark frame.
        negatives: what becomes of values below 0.
        mask_below: pixels that never read more than this are bad.
        mask_above: pixels that never read less than this are bad.
        turn_deg: counter-clockwise turn of the frames: 0, 90, 180 or 270.
        flip: axes of the frames to flip, after the turn.
        transpose: exchange rows and columns of the frames, after the flip.
        centre_y: row of the direct beam in the frames as they are in the file; found when not given.
        centre_x: its column.
        bin: side of the blocks of pixels that are summed into one.
        size: side of the frames at the end; by default the largest even one that does not have to be padded.
        positions_scale: factor on the positions.
        positions_turn_rad: turn of the positions from x towards y, instead of the one that their file states; none
            leaves that one, 0 turns nothing.
        positions_flip: axes of the positions that run the other way.
        positions_transpose: exchange the axes of the positions.
        energy_ev: photon energy; replaces what the file says, as all that follow do.
        wavelength_m: wavelength.
        voltage_v: accelerating voltage of electrons.
        distance_m: from object to detector.
        detector_pixel_m: side of a detector pixel, before binning.
        pixel_m: object pixel at the end.

    Raises:
        ConfigError: with every problem there is.
    """

    drop: str = ""
    drop_odd: bool = False
    background: float = 0.0
    negatives: Negatives = attrs.field(default=Negatives.ZERO, converter=_negatives)
    mask_below: float | None = None
    mask_above: float | None = None
    turn_deg: int = 0
    flip: Flip = attrs.field(default=Flip.NONE, converter=_flip)
    transpose: bool = False
    centre_y: float | None = None
    centre_x: float | None = None
    bin: int = 1
    size: int | None = None
    positions_scale: float = 1.0
    positions_turn_rad: float | None = None
    positions_flip: Flip = attrs.field(default=Flip.NONE, converter=_flip)
    positions_transpose: bool = False
    energy_ev: float | None = None
    wavelength_m: float | None = None
    voltage_v: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    pixel_m: float | None = None

    def __attrs_post_init__(self) -> None:
        raise_if_any(ConfigError, "preparation", _problems(self))


def _problems(settings: PreparationSettings) -> list[Problem]:
    lengths = ("energy_ev", "wavelength_m", "voltage_v", "distance_m", "detector_pixel_m", "pixel_m")
    numbers = ("background", "mask_below", "mask_above", "centre_y", "centre_x", "positions_turn_rad")
    rules: list[tuple[str, str, bool]] = [
        *((name, "a finite number > 0", _open(settings, name, lambda v: v > 0)) for name in lengths),
        *((name, "a finite number", _open(settings, name, math.isfinite)) for name in numbers),
        ("positions_scale", "a finite number other than 0", _number(settings.positions_scale, lambda v: v != 0)),
        ("negatives", f"one of {', '.join(Negatives)}", isinstance(settings.negatives, Negatives)),
        ("flip", f"one of {', '.join(Flip)}", isinstance(settings.flip, Flip)),
        ("positions_flip", f"one of {', '.join(Flip)}", isinstance(settings.positions_flip, Flip)),
        ("turn_deg", "0, 90, 180 or 270", _whole(settings.turn_deg, 0, 270) and settings.turn_deg % 90 == 0),
        ("bin", f"a whole number from 1 to {_LARGEST_BIN}", _whole(settings.bin, 1, _LARGEST_BIN)),
        (
            "size",
            f"a whole number from {_SMALLEST_PX} to {_LARGEST_PX}",
            settings.size is None or _whole(settings.size, _SMALLEST_PX, _LARGEST_PX),
        ),
        ("drop", 'frames such as "3,7,10-20"', frame_ranges(settings.drop) is not None),
    ]
    problems = [
        Problem(path=name, expected=expected, found=repr(getattr(settings, name)))
        for name, expected, holds in rules
        if not holds
    ]
    stated = [name for name in lengths[:3] if getattr(settings, name) is not None]
    if len(stated) > 1:
        problems.append(Problem(path=stated[1], expected=f"no other than {stated[0]}", found="both"))
    if (settings.centre_y is None) != (settings.centre_x is None):
        problems.append(Problem(path="centre_y, centre_x", expected="both or none", found="one"))
    return problems


def _open(settings: PreparationSettings, name: str, holds: object) -> bool:
    value: object = getattr(settings, name)
    return value is None or _number(value, holds)


def _number(value: object, holds: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return callable(holds) and bool(holds(value))


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
