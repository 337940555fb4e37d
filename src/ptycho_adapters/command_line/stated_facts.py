"""Flags that say what a scan does not say about itself and another format wants to know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.command_line.experiment_options import read_stated
from ptycho_adapters.command_line.usage import UsageError
from ptycho_core.errors import Problem, ScanFileError, raise_if_any
from ptycho_core.measurement.plausibility import geometry_problems

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.product import Product

LABELS = ("name", "object", "result")
"""Names of the flags that nothing but a copy has."""
LENGTHS = ("energy_ev", "wavelength_m", "voltage_v", "distance_m", "pixel_m")
"""Names of the flags for lengths, which a copy can write beside what a file says that has no words for them."""

_SAME_PX = 1e-6


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags that nothing but a copy has."""
    group = parser.add_argument_group("what the scan does not say; a flag outranks its file")
    group.add_argument("--name", metavar="TEXT", help="name of the scan")
    group.add_argument(
        "--object",
        metavar="FILE",
        help="object: a product, or NPZ with `object` or `objectGuess` whose pixel [0, 0] lies at position (0, 0)",
    )
    group.add_argument(
        "--result",
        metavar="FILE",
        help="a result (product) of this scan: its object, its probe and its positions as they were refined, of the "
        "patterns that it was made from; to train on a known object",
    )


def with_stated_facts(scan: Scan, typed: Mapping[str, object], path: Path) -> Scan:
    """Give a scan with what the flags say.

    Args:
        scan: as read.
        typed: the parsed command line.
        path: its file, for messages.

    Raises:
        UsageError: a number is none, several flags say the wavelength, or two say the object.
        FileNotFoundError: there is no such object or result.
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
    if typed.get("result") is not None:
        if typed.get("object") is not None:
            raise UsageError("--object and --result: only one can say the object")
        return _with_result(scan, Path(str(typed["result"])))
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


def _with_result(scan: Scan, path: Path) -> Scan:
    """Give the patterns that a result was made from with its object, probe and positions, from its first pixel."""
    from ptycho_adapters.files import read_product  # noqa: PLC0415 - h5py

    if not path.exists():
        raise FileNotFoundError(f"Result file not found: {path}")
    product = read_product(path)
    raise_if_any(ScanFileError, str(path), _strange(product, scan))
    origin, own = np.array(product.origin_px), scan.subset(product.position_indexes)
    commanded = own.commanded_positions_px
    return attrs.evolve(
        own,
        object=product.object,
        probe=product.probe,
        positions_px=product.positions_px - origin,
        commanded_positions_px=None if commanded is None else commanded - origin,
    )


def _strange(product: Product, scan: Scan) -> list[Problem]:
    """Return what says that a result is none of this scan, or of other frames of it."""
    numbers, given = product.position_indexes, product.given_positions_px
    if product.probe.shape[1] != scan.N:
        side = product.probe.shape[1]
        return [Problem(path="probe", expected=f"{scan.N} px, as the scan's patterns", found=f"{side} px")]
    if given is None:
        return [Problem(path="given positions", expected="those that the run was given", found="none")]
    inside = bool(np.all((numbers >= 0) & (numbers < scan.n_patterns)))
    if inside and np.allclose(scan.positions_px[numbers], given, rtol=0.0, atol=_SAME_PX):
        return []
    fix = "frames may have been left out: give --detector-check as the run had it (mask, unless it was told otherwise)"
    return [Problem(path="given positions", expected="those of this scan", found="other ones", fix=fix)]
