"""Flags that say what a file with frames does not say about its experiment: lengths and positions."""

from __future__ import annotations

import math
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_adapters.files.stated import Stated
from ptycho_core.errors import ConfigError, Problem
from ptycho_core.measurement.geometry import wavelength_from_energy, wavelength_from_voltage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "energy_ev": "photon energy [eV], instead of what the file says, as all that follow",
        "wavelength_m": "wavelength [m]",
        "voltage_v": "accelerating voltage of electrons [V]",
        "distance_m": "from object to detector [m]",
        "detector_pixel_m": "side of a detector pixel [m]",
        "pixel_m": "object pixel [m]",
    }
)
RASTER_HELP = "rows and columns of a scan row by row, for --step-m, where the file does not say them"
STEP_HELP = "way from row to row and from column to column of a raster; one number for both [m]"
TURN_HELP = "turn of the positions from x towards y, instead of the one that the file states; 0 turns nothing [rad]"
_WAVES = ("energy_ev", "wavelength_m", "voltage_v")
_PIXELS = "px"


def add_experiment_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser the flags."""
    parser.add_argument("--positions", metavar="FILE", help="positions, one a frame: CSV, text, HDF5 or NPZ")
    parser.add_argument(
        "--columns", metavar="X,Y", help="names, or numbers from 0, of the columns of the beam's x and y (default: x,y)"
    )
    parser.add_argument(
        "--unit", metavar="UNIT", help="unit of these positions: px, or of length such as um (default: m)"
    )
    parser.add_argument("--raster", metavar="ROWS,COLUMNS", help=RASTER_HELP)
    parser.add_argument("--step-m", metavar="Y,X", help=STEP_HELP)
    parser.add_argument("--positions-turn-rad", metavar="NUMBER", help=TURN_HELP)
    for name, text in NUMBERS.items():
        parser.add_argument(kebab(name), metavar="NUMBER", help=text)


def read_stated(typed: Mapping[str, object]) -> Stated:
    """Read what the flags say.

    Raises:
        UsageError: a flag cannot be understood.
        ConfigError: the unit is none of length.
        FileNotFoundError: there is no such file of positions.
        ScanFileError: it holds no such columns.
    """
    numbers = {name: _number(name, typed[name]) for name in NUMBERS if typed.get(name) is not None}
    waves = [name for name in _WAVES if name in numbers]
    if len(waves) > 1:
        raise UsageError(f"{' and '.join(map(kebab, waves))}: only one can be the wavelength")
    wavelength = numbers.get("wavelength_m")
    if "energy_ev" in numbers:
        wavelength = wavelength_from_energy(energy_ev=numbers["energy_ev"])
    if "voltage_v" in numbers:
        wavelength = wavelength_from_voltage(voltage_v=numbers["voltage_v"])
    stated = Stated(
        wavelength_m=wavelength,
        raster=read_raster(typed.get("raster")),
        step_m=read_step(typed.get("step_m")),
        distance_m=numbers.get("distance_m"),
        detector_pixel_m=numbers.get("detector_pixel_m"),
        pixel_m=numbers.get("pixel_m"),
        positions_turn_rad=_turn_rad(typed.get("positions_turn_rad")),
    )
    return stated if typed.get("positions") is None else _with_positions(stated, typed)


def read_raster(typed: object) -> tuple[int, int] | None:
    """Read rows and columns.

    Raises:
        UsageError: they are not two whole numbers above 0.
    """
    if typed is None:
        return None
    sides = [part.strip() for part in str(typed).split(",")]
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) < 1 << 31 for side in sides):
        raise UsageError(f"--raster: expected two whole numbers ROWS,COLUMNS, found {typed}")
    return int(sides[0]), int(sides[1])


def read_step(typed: object) -> tuple[float, float] | None:
    """Read one or two steps; a minus sign turns the way round.

    Raises:
        UsageError: they are no numbers.
    """
    if typed is None:
        return None
    try:
        steps = [float(part) for part in str(typed).split(",")]
    except ValueError:
        steps = []
    if len(steps) not in (1, 2) or not all(math.isfinite(step) and step for step in steps):
        raise UsageError(f"--step-m: expected one or two numbers in metres, found {typed}")
    return steps[0], steps[-1]


def _turn_rad(typed: object) -> float | None:
    if typed is None:
        return None
    try:
        value = float(str(typed))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--positions-turn-rad: expected a finite number of radians, found {typed}")
    return value


def _number(name: str, typed: object) -> float:
    try:
        value = float(str(typed))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0.0):
        raise UsageError(f"{kebab(name)}: expected a finite number > 0, found {typed}")
    return value


def _with_positions(stated: Stated, typed: Mapping[str, object]) -> Stated:
    from ptycho_adapters.files.raw.tables import read_columns  # noqa: PLC0415 - h5py
    from ptycho_adapters.files.units import factor_to  # noqa: PLC0415 - as above

    if stated.step_m is not None:
        raise UsageError("--positions and --step-m: only one can say where the frames are")
    path = Path(str(typed["positions"]))
    if not path.exists():
        raise FileNotFoundError(f"--positions file not found: {path}")
    names = [name.strip() for name in str(typed.get("columns") or "x,y").split(",")]
    if len(names) != 2:
        raise UsageError(f"--columns: expected two, X,Y, found {typed['columns']}")
    positions = read_columns(path, names)[:, ::-1].copy()
    unit = str(typed.get("unit") or "m")
    if unit == _PIXELS:
        return attrs.evolve(stated, positions_px=positions)
    factor = factor_to("m", unit, "--unit")
    if isinstance(factor, Problem):
        raise ConfigError("these positions cannot be used", [factor])
    return attrs.evolve(stated, positions=positions * factor)
