"""Units as files spell them, through the units library pint, which is imported when a file states one."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from pint import UnitRegistry

# One name and nothing else: expressions are no spelling of a unit that files have, and could be made to take for ever.
_NAME = re.compile(r"[^\W\d_]{1,24}")


def factor_to(wanted: str, stated: str, key: str) -> float | Problem:
    """Give the number that a value in the stated unit is multiplied by to have it in the wanted one.

    Args:
        wanted: unit that the caller works in, such as "m", "J" or "rad".
        stated: unit as a file spells it; upper and lower case matter, unless only lower case means anything.
        key: where it stands, for the message.

    Returns:
        The factor, or the problem that this is no unit of that kind.
    """
    name = stated.strip()
    if name == wanted:
        return 1.0
    fix = "name the unit as SI does, or leave it out where the number is in the format's own unit"
    problem = Problem(path=key, expected=f"a unit that {wanted} can be made of", found=repr(stated[:40]), fix=fix)
    if not _NAME.fullmatch(name):
        return problem
    from pint import UndefinedUnitError  # noqa: PLC0415 - takes most of a second, and few files need it

    registry = _registry()
    for spelling in (name, name.lower()):
        try:
            stated_unit, wanted_unit = registry.Unit(spelling), registry.Unit(wanted)
        except UndefinedUnitError:
            continue
        if stated_unit.dimensionality != wanted_unit.dimensionality:
            return problem
        return float(registry.Quantity(1.0, stated_unit).to(wanted_unit).magnitude)
    return problem


@cache
def _registry() -> UnitRegistry[float]:
    from pint import UnitRegistry  # noqa: PLC0415 - as above

    return UnitRegistry()
