"""`ptycho simulate`: a scan of a made object."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.text_values import read_text
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_core.errors import ConfigError
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from ptycho_core.measurement.scan import Scan

HELP = "simulate a scan of a made object"
USAGE = "ptycho simulate --output FILE.npz [flags]"
WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "N": ("side of a diffraction pattern", "px"),
        "object_kind": ("class of test object", ""),
        "object_size_px": ("side of the square object, at least N + 2 jitter", "px"),
        "phase_range_rad": ("the object's phase runs from 0 to this", "rad"),
        "amplitude_min": ("the object's lowest amplitude, 0 to 1; the highest is 1", ""),
        "probe_kind": ("class of illumination", ""),
        "n_modes": ("incoherent probe modes, 1 to 6", ""),
        "aberration_rad": ("root mean square of random pupil aberrations", "rad"),
        "photons": ("photons per frame of a transparent object", "photons"),
        "background": ("mean background", "counts/px"),
        "path": ("class of scan path", ""),
        "step_px": ("distance between neighbouring positions", "px"),
        "jitter_px": ("largest random displacement of a position along each axis", "px"),
        "whole_pixel": ("let every patch start on a whole pixel, so that nothing is interpolated", ""),
        "seed": ("source of all randomness", ""),
    }
)
"""What the help says about each field of the simulation: its meaning and its unit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    parser.add_argument("--output", metavar="FILE.npz", help="scan to write (required)")
    group = parser.add_argument_group("simulation")
    for field in attrs.fields(SimulationConfig):
        _add(group, field.name, field.default)
    parser.add_argument("--quiet", action="store_true", help="nothing but the summary")


def run(typed: Mapping[str, object]) -> None:
    """Simulate, write the scan and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    from ptycho_adapters.files import write_scan  # noqa: PLC0415 - only who writes needs it

    if typed.get("output") is None:
        raise UsageError("--output is required")
    path = Path(str(typed["output"]))
    if path.is_dir():
        message = f"Scan is to be a file, and this is a folder: {path}"
        raise IsADirectoryError(message)
    config = read_config(typed)
    if not typed.get("quiet"):
        console.note(f"simulating {config.object_kind} of {config.object_size_px} px")
    scan = simulate(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(scan, path)
    console.tell(console.summary(f"simulated {scan.metadata.name}", figures(scan), [path]))


def read_config(typed: Mapping[str, object]) -> SimulationConfig:
    """Read a simulation from a parsed command line.

    Raises:
        ConfigError: with flags as paths.
    """
    given = {
        field.name: read_text(str(typed[field.name]), _kind(field.default))
        for field in attrs.fields(SimulationConfig)
        if typed.get(field.name) is not None
    }
    try:
        make: Callable[..., SimulationConfig] = SimulationConfig  # values of any type: validation speaks about them
        return make(**given)
    except ConfigError as error:
        problems = [attrs.evolve(problem, path=kebab(problem.path)) for problem in error.problems]
        raise ConfigError("this simulation cannot be made", problems) from None


def figures(scan: Scan) -> dict[str, object]:
    """Return what a simulated scan holds."""
    return {
        "patterns": scan.n_patterns,
        "pattern_px": scan.N,
        "object_px": "none" if scan.object is None else " x ".join(map(str, scan.object.shape)),
        "photons_per_pattern": float(scan.counts().sum(dtype="float64")) / scan.n_patterns,
        "largest_count": float(scan.patterns.max()),
        "number_format": str(scan.patterns.dtype),
        "megabytes": scan.patterns.nbytes / 1e6,
    }


def _add(group: argparse._ArgumentGroup, name: str, default: object) -> None:
    doc, unit = WORDS[name]
    help_text = f"{doc}{f' [{unit}]' if unit else ''} (default: {_shown(default)})"
    if isinstance(default, bool):
        group.add_argument(kebab(name), action="store_const", const="true", help=help_text)
        return
    choices = "{" + ",".join(type(default)) + "}" if isinstance(default, StrEnum) else None
    number = "INTEGER" if isinstance(default, int) else "NUMBER"
    group.add_argument(kebab(name), metavar=choices or number, help=help_text)


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else ("no" if default is False else str(default))


def _kind(default: object) -> type:
    return str if isinstance(default, StrEnum) else type(default)
