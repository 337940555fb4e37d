"""Flags that say what a scan does not say about itself and another format wants to know."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line.text_values import read_text
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_core.errors import ScanFileError, raise_if_any
from ptycho_core.measurement.geometry import wavelength_from_energy, wavelength_from_voltage
from ptycho_core.measurement.plausibility import geometry_problems

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_core.measurement.scan import Scan

_LENGTHS = {
    "pixel_m": "side of an object pixel [m]",
    "energy_ev": "photon energy [eV]",
    "wavelength_m": "wavelength [m]",
    "voltage_v": "accelerating voltage of electrons [V]",
    "distance_m": "from object to detector [m]",
}
_OF_WAVES = ("energy_ev", "wavelength_m", "voltage_v")
STATED = (*_LENGTHS, "name", "object")
"""Names of the flags."""


def add_stated_facts(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags."""
    group = parser.add_argument_group("what the scan does not say; a flag outranks its file")
    for name, text in _LENGTHS.items():
        group.add_argument(kebab(name), metavar="NUMBER", help=text)
    group.add_argument("--name", metavar="TEXT", help="name of the scan")
    group.add_argument(
        "--object",
        metavar="FILE",
        help="object: a product, or NPZ with `object` or `objectGuess` whose pixel [0, 0] lies at position (0, 0)",
    )


def with_stated_facts(scan: Scan, typed: Mapping[str, object], path: Path) -> Scan:
    """Give a scan with what the flags say.

    Args:
        scan: as read.
        typed: the parsed command line.
        path: its file, for messages.

    Raises:
        UsageError: a number is none, or several flags say the wavelength.
        FileNotFoundError: there is no such object.
        ScanFileError: the file of the object holds none, or a length cannot be.
    """
    pixel, distance, wavelength = _number(typed, "pixel_m"), _number(typed, "distance_m"), _wavelength_m(typed)
    raise_if_any(ScanFileError, str(path), geometry_problems(distance_m=distance, pixel_m=pixel))
    known = scan.metadata
    metadata = attrs.evolve(
        known,
        name=known.name if typed.get("name") is None else str(typed["name"]),
        pixel_size_m=pixel or known.pixel_size_m,
        wavelength_m=wavelength or known.wavelength_m,
        distance_m=distance or known.distance_m,
    )
    scan = attrs.evolve(scan, metadata=metadata)
    return scan if typed.get("object") is None else _with_object(scan, Path(str(typed["object"])))


def _with_object(scan: Scan, path: Path) -> Scan:
    """Give a scan with an object, and its positions from that object's first pixel."""
    from ptycho_adapters.evaluation.objects import read_object  # noqa: PLC0415 - h5py

    if not path.exists():
        raise FileNotFoundError(f"Object file not found: {path}")
    placed = read_object(path)
    commanded = scan.commanded_positions_px
    return attrs.evolve(
        scan,
        object=placed.object,
        positions_px=scan.positions_px - placed.origin_px,
        commanded_positions_px=None if commanded is None else commanded - placed.origin_px,
    )


def _wavelength_m(typed: Mapping[str, object]) -> float | None:
    given = {name: value for name in _OF_WAVES if (value := _number(typed, name)) is not None}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(map(kebab, given))} say the same: give one of them")
    if "energy_ev" in given:
        return wavelength_from_energy(energy_ev=given["energy_ev"])
    if "voltage_v" in given:
        return wavelength_from_voltage(voltage_v=given["voltage_v"])
    return given.get("wavelength_m")


def _number(typed: Mapping[str, object], name: str) -> float | None:
    text = typed.get(name)
    if text is None:
        return None
    value = read_text(str(text), float)
    if not isinstance(value, float) or not 0.0 < value < math.inf:
        raise UsageError(f"{kebab(name)}: expected a finite number > 0, found {text!r}")
    return value
