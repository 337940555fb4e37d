"""Which sides of a pattern the generators can take; any side from 16 to 2048 px where nothing else is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs

from ptycho_core.errors import Problem

SMALLEST_PX, LARGEST_PX = 16, 2048
LEGACY_SIDES_PX = (64, 128, 256)
"""What legacy consumers of the parameter dict take."""


@attrs.frozen
class _Sides:
    expected: str
    takes: Callable[[int], bool]


_OF_GENERATOR: Mapping[str, _Sides] = MappingProxyType(
    {
        "unet": _Sides("a multiple of 8", lambda side: side % 8 == 0),
        "ffno": _Sides("an even number", lambda side: side % 2 == 0),
        "cnn": _Sides("64, 128 or 256", lambda side: side in LEGACY_SIDES_PX),
    }
)


def side_problems(architecture: str, side: int) -> tuple[Problem, ...]:
    """Say why a generator cannot take patterns of this side [px]; empty where it can."""
    sides = _OF_GENERATOR.get(architecture)
    if sides is None or sides.takes(side):
        return ()
    fix = "crop or pad the patterns with ptycho prepare --size, or take the unrolled generator, which has any side"
    return (Problem(path="N", expected=f"{sides.expected}, as {architecture} takes", found=str(side), fix=fix),)
