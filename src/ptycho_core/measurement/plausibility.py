"""Lengths and positions that cannot be in the unit they are taken in, refused with the unit that they may be in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.errors import Problem

if TYPE_CHECKING:
    import numpy.typing as npt

# From what a detector can be brought to, to the longest hall; from the finest sensor to a scintillator's pixel.
DISTANCES_M = (1e-4, 200.0)
DETECTOR_PIXELS_M = (1e-8, 1e-2)
# From a tenth of an atom to what visible light would need a lens for.
OBJECT_PIXELS_M = (1e-12, 1e-3)
LARGEST_SPAN_PX = 1e7
_SMALLEST_SPAN_PX, _SMALLEST_SHARE, _MANY = 1.0, 1 / 32, 9
_USUAL_DISTANCE_M, _USUAL_DETECTOR_PIXEL_M = (0.02, 30.0), (2e-6, 5e-4)
_UNITS_M = {"mm": 1e-3, "um": 1e-6, "cm": 1e-2, "nm": 1e-9, "km": 1e3}


def geometry_problems(
    *, distance_m: float | None = None, detector_pixel_m: float | None = None, pixel_m: float | None = None
) -> tuple[Problem, ...]:
    """Say which lengths of an experiment cannot be metres.

    Args:
        distance_m: from object to detector; None is not looked at, here and below.
        detector_pixel_m: side of a detector pixel.
        pixel_m: side of an object pixel.
    """
    rules = (
        ("distance", distance_m, DISTANCES_M, _USUAL_DISTANCE_M),
        ("detector pixel", detector_pixel_m, DETECTOR_PIXELS_M, _USUAL_DETECTOR_PIXEL_M),
        ("object pixel", pixel_m, OBJECT_PIXELS_M, None),
    )
    return tuple(
        _length_problem(name, value, limits, usual)
        for name, value, limits, usual in rules
        if value is not None and not limits[0] <= abs(value) <= limits[1]
    )


def _length_problem(name: str, value: float, limits: tuple[float, float], usual: tuple[float, float] | None) -> Problem:
    expected = f"a {name} from {limits[0]:g} to {limits[1]:g} m"
    unit = None if usual is None else likely_unit(abs(value), usual)
    fix = f"it may be in {unit}" if unit is not None else "look at the units of energy, distance and detector pixel"
    return Problem(path=name, expected=expected, found=f"{value:g} m", fix=fix)


def likely_unit(value: float, usual_m: tuple[float, float]) -> str | None:
    """Give the unit of length in which a number would be a usual one in metres; None where there is none.

    Args:
        value: the number.
        usual_m: smallest and largest usual length.
    """
    return next((unit for unit, metres in _UNITS_M.items() if usual_m[0] <= value * metres <= usual_m[1]), None)


def position_problems(
    positions_px: npt.NDArray[np.float64], *, size_px: int, unit_said: bool = False
) -> tuple[Problem, ...]:
    """Say why positions cannot be in object pixels: all lie within a pixel or so, or spread over millions.

    Many positions have to span a thirty-second of a pattern, fewer a pixel, and so do many whose unit somebody said:
    dense scans of a small field are rare beside files in another unit, but they are. A single position is not looked
    at.

    Args:
        positions_px: (n, 2) finite.
        size_px: side of a pattern.
        unit_said: whether their unit was stated, not taken for granted.
    """
    if len(positions_px) < 2:
        return ()
    span = float(np.max(np.ptp(positions_px, axis=0)))
    many = len(positions_px) >= _MANY and not unit_said
    least = max(_SMALLEST_SPAN_PX, size_px * _SMALLEST_SHARE) if many else _SMALLEST_SPAN_PX
    if least <= span < LARGEST_SPAN_PX:
        return ()
    few = span < least
    found = f"all positions within {span:.3g} px" if few else f"positions over {span:.3g} px"
    hint = "in metres or micrometres: divide them by the object's pixel" if few else "in nanometres, or in motor steps"
    fix = (
        f"they may be {hint}; ptycho prepare --positions FILE --unit UNIT takes them in the unit that you say. Where "
        "the file has them in metres, look at energy, distance and detector pixel"
    )
    expected = f"positions in object pixels, which span {least:g} to {LARGEST_SPAN_PX:g} px"
    return (Problem(path="positions_px", expected=expected, found=found, fix=fix),)
