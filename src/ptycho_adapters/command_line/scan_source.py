"""Options that say how a file is to be read as a scan, for commands that take any format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.command_line.experiment_options import add_experiment_options, read_stated
from ptycho_adapters.command_line.links import LINKS_HELP
from ptycho_adapters.command_line.probe_options import add_probe_options, probe_source
from ptycho_adapters.command_line.view_options import add_view_options, as_seen
from ptycho_adapters.files import DetectorCheck
from ptycho_adapters.files.reading import ReadRequest
from ptycho_adapters.files.scans import read_requested
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_core.measurement.scan import Scan


def add_scan_options(parser: argparse._ActionsContainer, *, detector_check: DetectorCheck = DetectorCheck.MASK) -> None:
    """Give a parser what a scan file may leave open.

    Args:
        parser: of the command.
        detector_check: what the command does about faults of the detector where nothing is said.
    """
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
    parser.add_argument("--follow-links", action="store_true", help=LINKS_HELP)
    add_detector_option(parser, detector_check)
    add_view_options(parser)
    add_probe_options(parser)
    add_experiment_options(parser)


def add_detector_option(parser: argparse._ActionsContainer, default: DetectorCheck) -> None:
    """Give a parser the flag for what is done about faults of the detector."""
    parser.add_argument(
        "--detector-check",
        choices=[str(check) for check in DetectorCheck],
        default=str(default),
        help="hot, stuck and dead pixels, gaps, spikes, overflows, values below 0 or not finite, frames that are dark "
        "or glitched: mask, replace or leave them out; or only say so; or do not look (default: %(default)s)",
    )


def detector_check(typed: Mapping[str, object]) -> DetectorCheck:
    """Return what is to be done about faults of the detector."""
    return DetectorCheck(str(typed.get("detector_check") or DetectorCheck.MASK))


def read_source(typed: Mapping[str, object], path: Path) -> Scan:
    """Read a scan as the options say.

    Raises:
        UsageError: the options for the probe or the experiment cannot be understood.
        ConfigError: the unit of the positions is none of length.
        FileNotFoundError: a file is not there.
        ScanFileError: the file is no scan, or lacks something that no option gives.
    """
    domain, product = typed.get("domain"), typed.get("product")
    asked = ReadRequest(
        domain=None if domain is None else MeasurementDomain(str(domain)),
        product=None if product is None else Path(str(product)),
        probe=probe_source(typed),
        detector_check=detector_check(typed),
        stated=read_stated(typed),
    )
    scan = read_requested(path, asked)
    return as_seen(scan, typed, path)
