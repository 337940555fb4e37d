"""Options that say how a file is to be read as a scan, for commands that take any format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.command_line.probe_options import add_probe_options, probe_source
from ptycho_adapters.files import read_scan
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan


def add_scan_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser what a scan file may leave open."""
    parser.add_argument(
        "--domain",
        choices=[str(domain) for domain in MeasurementDomain],
        help="what the patterns are (default: as the file says or proves)",
    )
    parser.add_argument(
        "--product",
        metavar="FILE",
        help="second file with what the first one lacks, such as the positions and probe of a diffraction file",
    )
    add_probe_options(parser)


def read_source(typed: Mapping[str, object], path: Path) -> Scan:
    """Read a scan as the options say.

    Raises:
        UsageError: the options for the probe cannot be understood.
        FileNotFoundError: a file is not there.
        ScanFileError: the file is no scan, or lacks something that no option gives.
    """
    domain, product = typed.get("domain"), typed.get("product")
    return read_scan(
        path,
        domain=None if domain is None else str(domain),
        product=None if product is None else str(product),
        probe=probe_source(typed),
    )
