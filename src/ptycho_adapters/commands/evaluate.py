"""`ptycho evaluate`: how close a result is to a reference."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.archive_facts import find_model
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.scan_input import existing, warn_of
from ptycho_adapters.command_line.text_values import read_text
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_adapters.common.bars import bars_drawn
from ptycho_adapters.evaluation.area import Area, judge
from ptycho_adapters.evaluation.halves import compare_halves
from ptycho_adapters.evaluation.objects import read_object
from ptycho_adapters.files import read_scan
from ptycho_adapters.shipped_weights import weights_path
from ptycho_core.measurement.findings import Finding
from ptycho_core.measurement.suspicions import screened_findings
from ptycho_core.results.alignment import ComparisonSettings

if TYPE_CHECKING:
    import argparse

    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.product import Product

HELP = "compare results with a reference, or two halves of a scan with each other"
USAGE = """ptycho evaluate RESULT [RESULT ...] --reference FILE --output-dir FOLDER [flags]
       ptycho evaluate SCAN --halves [--model-path MODEL] --output-dir FOLDER [flags]"""
_PRODUCT_NAME = "object.h5"
_REGION = re.compile(r"(-?\d+):(-?\d+),(-?\d+):(-?\d+)", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    parser.add_argument(
        "result",
        metavar="RESULT",
        nargs="+",
        help="product (object.h5), or the folder that holds one; several are set side by side; with --halves, a scan",
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="product, or NPZ with `object` or `objectGuess` whose pixel [0, 0] lies at position (0, 0)",
    )
    parser.add_argument(
        "--halves",
        action="store_true",
        help="where there is no reference: reconstruct two interleaved halves of a scan, each by itself, and compare "
        "them with each other",
    )
    parser.add_argument(
        "--model-path",
        metavar="PATH",
        help="model to reconstruct the halves with, which asks for them too (default: the package's own network)",
    )
    parser.add_argument("--output-dir", metavar="PATH", help="folder for figures, picture and report (required)")
    _add_area_and_gauge(parser)
    parser.add_argument("--quiet", action="store_true", help="nothing but the figures")


def _add_area_and_gauge(parser: argparse.ArgumentParser) -> None:
    """Add what is judged, and how far it may be shifted and sloped to fit."""
    default, area = ComparisonSettings(), Area()
    parser.add_argument(
        "--region", metavar="Y0:Y1,X0:X1", help="judge this part only, in the frame of the positions [px]"
    )
    parser.add_argument(
        "--margin-px", metavar="INTEGER", help=f"rim of the covered area left out [px] (default: {area.margin_px})"
    )
    parser.add_argument(
        "--coverage-threshold",
        metavar="NUMBER",
        help=f"fraction of the largest coverage that a pixel needs (default: {area.coverage_threshold:g})",
    )
    parser.add_argument(
        "--max-shift-px",
        metavar="NUMBER",
        help=f"largest shift to be registered along each axis [px] (default: {default.max_shift_px:g})",
    )
    parser.add_argument(
        "--max-ramp-rad-per-px",
        metavar="NUMBER",
        help=f"largest phase ramp to be removed along each axis [rad/px] (default: {default.max_ramp_rad_per_px:g})",
    )


def run(typed: Mapping[str, object]) -> None:
    """Compare, write the evaluation and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    given = _results(typed)
    if typed.get("halves") or typed.get("model_path") is not None:
        _compare_halves(typed, given)
        return
    if typed.get("reference") is None:
        raise UsageError("--reference is required; or --halves, for two halves of a scan that has no reference")
    reference, folder = (_required(typed, name) for name in ("reference", "output_dir"))
    results = [each / _PRODUCT_NAME if (each / _PRODUCT_NAME).is_file() else each for each in given]
    if len(results) == 1:
        _compare(typed, results[0], reference, folder)
        return
    names = _names_of(results)
    _side_by_side(
        {name: _compare(typed, each, reference, folder / name) for name, each in zip(names, results, strict=True)},
        folder,
    )


def _results(typed: Mapping[str, object]) -> list[Path]:
    found = typed.get("result")
    if not isinstance(found, list) or not found:
        raise UsageError("RESULT is required")
    return [Path(str(each)) for each in found]


def _names_of(results: list[Path]) -> list[str]:
    """Name results by their folders or files, with as many of the folders around them as tell them apart."""
    paths = [each.parent if each.name == _PRODUCT_NAME else each.with_suffix("") for each in results]
    parts = [[part for part in path.absolute().parts if part != path.absolute().anchor] for path in paths]
    for length in range(1, 1 + max(map(len, parts))):
        names = ["-".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f"RESULT: expected each one once, found {', '.join(map(str, results))}")


def _compare(typed: Mapping[str, object], result: Path, reference: Path, folder: Path) -> Comparison:
    area, settings = read_area(typed), read_comparison_settings(typed)
    found = read_object(existing(result, "Result"))
    truth = read_object(existing(reference, "Reference"))
    comparison = judge(found, truth, area, settings, name=f"{result} against {reference}")
    judged = _Judged(
        compared=f"{result} with {reference}",
        inputs={"result": result, "reference": reference},
        settings=attrs.asdict(area) | attrs.asdict(settings),
    )
    _report(comparison, folder, judged, product=found.product)
    return comparison


def _side_by_side(comparisons: Mapping[str, Comparison], folder: Path) -> None:
    """Write the figures of several results as one table, and all of them in one picture."""
    from ptycho_adapters.report.results import write_side_by_side  # noqa: PLC0415 - h5py and matplotlib

    files = write_side_by_side(comparisons, folder)
    figures = {name: each.figures() for name, each in comparisons.items()}
    console.tell(console.table(figures, files))


def _compare_halves(typed: Mapping[str, object], given: list[Path]) -> None:
    for name in ("reference", "region"):
        if typed.get(name) is not None:
            raise UsageError(f"{kebab(name)}: expected none beside --halves, found {typed[name]}")
    if len(given) > 1:
        raise UsageError(f"SCAN: expected one with --halves, found {len(given)}")
    source, folder = given[0], _required(typed, "output_dir")
    area, settings = read_area(typed), read_comparison_settings(typed)
    archive = None if typed.get("model_path") is None else find_model(_required(typed, "model_path"))
    scan = read_scan(existing(source, "Scan"))
    warn_of(screened_findings(scan), source)
    with bars_drawn(wanted=not typed.get("quiet")):
        comparison, found = compare_halves(scan, archive, area, settings, name=str(source))
    warn_of(found, source)
    judged = _Judged(
        compared=f"the reconstructions of two halves of {source}",
        inputs={"scan": source, "model_path": weights_path() if archive is None else archive},
        settings=attrs.asdict(area) | attrs.asdict(settings),
        findings=found,
    )
    _report(comparison, folder, judged)


@attrs.frozen(kw_only=True, eq=False)
class _Judged:
    """What was compared and how, for the report, and what was found on the way."""

    compared: str
    inputs: Mapping[str, Path]
    settings: Mapping[str, object]
    findings: tuple[Finding, ...] = ()


def _report(comparison: Comparison, folder: Path, judged: _Judged, *, product: Product | None = None) -> None:
    """Write an evaluation and say what came of it."""
    from ptycho_adapters.report.results import write_evaluation  # noqa: PLC0415 - h5py and matplotlib
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    summary = Summary(
        command="evaluate",
        title=f"compared {judged.compared}: {comparison.n_pixels} pixels",
        figures=comparison.figures(),
        inputs=judged.inputs,
        settings=judged.settings,
        findings=judged.findings,
    )
    for name in comparison.at_limit:
        console.warn(
            f"{judged.compared}: the search for a shift or ramp between them ended at its limit; unless {kebab(name)} "
            "is larger, the figures may be those of a wrong place"
        )
    files = write_evaluation(comparison, summary, folder, product=product)
    console.tell(console.summary(summary.title, summary.figures, files))


def read_area(typed: Mapping[str, object]) -> Area:
    """Read what is judged from a parsed command line.

    Raises:
        UsageError: a value is not valid.
    """
    default = Area()
    margin = _number(typed, "margin_px", default.margin_px)
    if margin != int(margin):
        raise UsageError(f"--margin-px: expected a whole number, found {margin:g}")
    threshold = _number(typed, "coverage_threshold", default.coverage_threshold, below=1.0)
    return Area(region_px=_region(typed.get("region")), margin_px=int(margin), coverage_threshold=threshold)


def read_comparison_settings(typed: Mapping[str, object]) -> ComparisonSettings:
    """Read how the gauge is removed from a parsed command line.

    Raises:
        UsageError: a value is not valid.
    """
    default = ComparisonSettings()
    return ComparisonSettings(
        max_shift_px=_number(typed, "max_shift_px", default.max_shift_px),
        max_ramp_rad_per_px=_number(typed, "max_ramp_rad_per_px", default.max_ramp_rad_per_px),
    )


def _region(text: object) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    found = _REGION.fullmatch(str(text))
    y0, y1, x0, x1 = (int(edge) for edge in found.groups()) if found else (0, 0, 0, 0)
    if y0 >= y1 or x0 >= x1:
        raise UsageError(f"--region: expected Y0:Y1,X0:X1 with Y0 < Y1 and X0 < X1, found {text!r}")
    return y0, y1, x0, x1


def _number(typed: Mapping[str, object], name: str, default: float, *, below: float = math.inf) -> float:
    text = typed.get(name)
    if text is None:
        return default
    value = read_text(str(text), float)
    if not isinstance(value, float) or not 0 <= value < below:
        limit = "" if math.isinf(below) else f" and less than {below:g}"
        raise UsageError(f"{kebab(name)}: expected a finite number, 0 or more{limit}, found {text!r}")
    return value


def _required(typed: Mapping[str, object], name: str) -> Path:
    value = typed.get(name)
    if value is None:
        raise UsageError(f"{kebab(name)} is required")
    return Path(str(value))
