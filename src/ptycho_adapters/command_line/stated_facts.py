"""Flags that say what a scan does not say about itself and another format wants to know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line.experiment_options import read_stated
from ptycho_core.errors import ScanFileError, raise_if_any
from ptycho_core.measurement.plausibility import geometry_problems

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_core.measurement.scan import Scan

LABELS = ("name", "object")
"""Names of the flags that nothing but a copy has."""
LENGTHS = ("energy_ev", "wavelength_m", "voltage_v", "distance_m", "pixel_m")
"""Names of the flags for lengths, which a copy can write beside what a file says that has no words for them."""


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags that nothing but a copy has."""
    group = parser.add_argument_group("what the scan does not say; a flag outranks its file")
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
    stated = read_stated({name: typed.get(name) for name in LENGTHS})
    problems = geometry_problems(distance_m=stated.distance_m, pixel_m=stated.pixel_m)
    raise_if_any(ScanFileError, str(path), problems)
    known = scan.metadata
    metadata = attrs.evolve(
        known,
        name=known.name if typed.get("name") is None else str(typed["name"]),
        pixel_size_m=stated.pixel_m or known.pixel_size_m,
        wavelength_m=stated.wavelength_m or known.wavelength_m,
        distance_m=stated.distance_m or known.distance_m,
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
