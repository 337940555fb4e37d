"""Values in words: figures and settings as people and machines are told them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.config.overrides import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping


_SOURCES: Mapping[Layer, str] = MappingProxyType(
    {
        Layer.CLI: "command line",
        Layer.FILE: "configuration file",
        Layer.ARCHIVE: "model archive",
        Layer.SCAN: "scan",
        Layer.BACKEND: "backend",
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
