"""The JSON text that an NPZ scan carries under `_metadata`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, TypeAlias

from ptycho_core.errors import Problem
from ptycho_core.measurement.scan import ScanMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | float | bool | None"

KEY = "_metadata"
_SCHEMA_VERSION = "1.0.0"
_OWN_SECTION = "ptycho_core"
_NUMBERS = ("pixel_size_m", "wavelength_m", "distance_m")


def metadata_to_text(metadata: ScanMetadata, *, N: int) -> str:
    """Write metadata as JSON: the legacy `physics_parameters` and a section of our own."""
    physics: dict[str, Json] = {"N": N}
    if metadata.nphotons is not None:
        physics["nphotons"] = metadata.nphotons
    own: dict[str, Json] = {
        "name": metadata.name,
        "pixel_size_m": metadata.pixel_size_m,
        "wavelength_m": metadata.wavelength_m,
        "distance_m": metadata.distance_m,
        "extra": dict(metadata.extra),
    }
    content = {"schema_version": _SCHEMA_VERSION, "physics_parameters": physics, _OWN_SECTION: own}
    return json.dumps(content, allow_nan=False)


def metadata_from_text(text: str) -> tuple[ScanMetadata, list[Problem]]:
    """Read metadata; what is not ours is kept as text under the extra key `legacy_metadata`.

    Returns:
        The metadata as far as they can be read, and the problems.
    """
    try:
        content: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        return ScanMetadata(), [Problem(path=KEY, expected="JSON", found=f"text that is not ({error})")]
    if not isinstance(content, dict):
        return ScanMetadata(), [Problem(path=KEY, expected="a JSON object", found=type(content).__name__)]
    problems: list[Problem] = []
    physics = _section(content, "physics_parameters", problems)
    own = _section(content, _OWN_SECTION, problems)
    extra = {str(key): str(value) for key, value in _section(own, "extra", problems).items()}
    if _OWN_SECTION not in content:
        extra["legacy_metadata"] = text
    numbers = {key: _number(own, _OWN_SECTION, key, problems) for key in _NUMBERS}
    metadata = ScanMetadata(
        name=str(own.get("name", "")),
        nphotons=_number(physics, "physics_parameters", "nphotons", problems),
        pixel_size_m=numbers["pixel_size_m"],
        wavelength_m=numbers["wavelength_m"],
        distance_m=numbers["distance_m"],
        extra=extra,
    )
    return metadata, problems


def _section(content: Mapping[str, Json], key: str, problems: list[Problem]) -> Mapping[str, Json]:
    section = content.get(key, {})
    if isinstance(section, dict):
        return section
    problems.append(Problem(path=f"{KEY}.{key}", expected="a JSON object", found=type(section).__name__))
    return {}


def _number(section: Mapping[str, Json], name: str, key: str, problems: list[Problem]) -> float | None:
    value = section.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < math.inf:
        return float(value)
    problems.append(Problem(path=f"{KEY}.{name}.{key}", expected="a finite number > 0", found=repr(value)))
    return None
