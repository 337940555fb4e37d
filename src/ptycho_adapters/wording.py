"""Values in words: figures and settings as people and machines are told them."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.config.overrides import Layer
from ptycho_core.measurement.geometry import of_electrons

if TYPE_CHECKING:
    from collections.abc import Mapping


_PLAIN: Mapping[str, str] = MappingProxyType(
    {"…": "...", "×": "x", "·": "*", "–": "-", "−": "-", "²": "^2", "√": "sqrt", "Σ": "sum "}
)
"""What stands for a sign where there is none for it; letters, which names are made of, are never exchanged."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_LENGTHS = ((1e-12, "pm"), (1e-10, "Å"), (1e-9, "nm"), (1e-6, "µm"), (1e-3, "mm"))
# Structure is told in Å up to 2 nm, and wavelengths of electrons in pm up to 50 pm.
_UPPER: Mapping[str, float] = MappingProxyType({"pm": 0.05, "Å": 0.02})

_SOURCES: Mapping[Layer, str] = MappingProxyType(
    {
        Layer.CLI: "command line",
        Layer.FILE: "configuration file",
        Layer.ARCHIVE: "model archive",
        Layer.SCAN: "scan",
        Layer.COMMAND: "the command's own default",
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


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Return a text that can be written and shown anywhere: what cannot be is spelled out.

    Bytes of a file name that are no text, and control characters other than line feeds, tabs and carriage returns,
    become `\xNN`; characters that the encoding lacks become plain ones or `\uNNNN`.

    Args:
        text: any.
        encoding: that it has to go through.
    """
    if text.isascii() and text.isprintable():
        return text
    spelled = _UNPRINTABLE.sub(_spelled, text)
    try:
        spelled.encode(encoding)
    except UnicodeEncodeError:
        plain = "".join(_PLAIN.get(letter, letter) for letter in spelled)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return spelled


def _spelled(found: re.Match[str]) -> str:
    """Spell a byte that is no text, half a character, or a control character."""
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code >= 0xD800 else f"\\x{code:02x}"


def length_in_words(metres: float) -> str:
    """Return a length in the unit of its kind: pm, Å, nm, µm, mm or m.

    Args:
        metres: in metres, finite.
    """
    size = abs(metres)
    unit, name = next(
        ((unit, name) for unit, name in _LENGTHS if size < 1000 * unit * _UPPER.get(name, 1.0)), (1.0, "m")
    )
    return f"{metres / unit:.4g} {name}"


def quanta(wavelength_m: float | None) -> str:
    """Return what counts are counts of at a wavelength in metres; photons where it is not known."""
    return "electrons" if wavelength_m is not None and of_electrons(wavelength_m=wavelength_m) else "photons"


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
