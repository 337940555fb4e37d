"""Values in words: figures and settings as people and machines are told them."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.config.overrides import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core.config.serialize import JsonValue

_SOURCES: Mapping[Layer, str] = MappingProxyType(
    {
        Layer.CLI: "command line",
        Layer.FILE: "configuration file",
        Layer.ARCHIVE: "model archive",
        Layer.SCAN: "scan",
        Layer.TORCH_DEFAULT: "default",
        Layer.CANONICAL_DEFAULT: "canonical default",
    }
)


def shown(value: object) -> str:
    """Return a figure for people."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
    return str(value)


def shown_value(value: object) -> str:
    """Return a setting's value as it would be typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(shown_value, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def source_in_words(layer: Layer) -> str:
    """Return what a layer is called among people."""
    return _SOURCES.get(layer, str(layer))


def json_value(value: object) -> JsonValue:
    """Return a setting's value as plain JSON."""
    if isinstance(value, np.ndarray):
        listed: list[JsonValue] = value.tolist()
        return listed
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    message = f"{type(value).__name__} is no value of a setting"
    raise TypeError(message)
