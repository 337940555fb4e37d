"""How much a network errs, as a law that was measured on simulations: what a finish has for a prior.

Pixel by pixel a network errs the more the further the object bends around it, and the less the more photons there are;
slow waves lie beside that. Which numbers the law has, is a property of the weights.
"""

from __future__ import annotations

import json
import math

import attrs
from attrs.validators import instance_of

from ptycho_core.errors import Problem


def _positive(instance: PriorLaw, attribute: attrs.Attribute[float], value: float) -> None:  # noqa: ARG001 - attrs' form
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{attribute.name}: expected a number > 0, found {value!r}")


_rule = [instance_of(float), _positive]


@attrs.frozen(kw_only=True)
class PriorLaw:
    """The variance of a network's error, by bend and photons per pixel.

    A bend is the mean square of second differences around a pixel. Of phase and amplitude, by pixel:
    fine * bend ** by_bent / photons ** by_light, times 1 + (photons / bright_photons) ** together_by_light for what
    neighbours have in common. Of slow waves: slow + slow_of_light / photons.

    Raises:
        ValueError: a number is not positive.
    """

    fine_phase: float = attrs.field(validator=_rule)
    phase_by_bent: float = attrs.field(validator=_rule)
    phase_by_light: float = attrs.field(validator=_rule)
    fine_amplitude: float = attrs.field(validator=_rule)
    amplitude_by_bent: float = attrs.field(validator=_rule)
    amplitude_by_light: float = attrs.field(validator=_rule)
    bright_photons: float = attrs.field(validator=_rule)
    together_by_light: float = attrs.field(validator=_rule)
    slow_phase: float = attrs.field(validator=_rule)
    slow_phase_of_light: float = attrs.field(validator=_rule)
    slow_amplitude: float = attrs.field(validator=_rule)
    slow_amplitude_of_light: float = attrs.field(validator=_rule)


_NAMES = tuple(field.name for field in attrs.fields(PriorLaw))


def prior_law_to_json(law: PriorLaw) -> bytes:
    """Write a law down."""
    return json.dumps(attrs.asdict(law), indent=2).encode() + b"\n"


def prior_law_from(content: object, path: str) -> PriorLaw | Problem:
    """Make a law of what JSON holds, or say what is wrong with it.

    Args:
        content: a table of its numbers.
        path: where that stands, for messages.
    """
    expected = f"a positive number for each of {', '.join(_NAMES)}"
    if isinstance(content, dict) and content.keys() == {*_NAMES}:
        try:
            return PriorLaw(**content)
        except (TypeError, ValueError) as error:
            return Problem(path=path, expected=expected, found=str(error))
    return Problem(path=path, expected=expected, found=repr(content)[:80])
