"""`ptycho refine`: a scan and, if there is one, a result in; the result of an iterative solver out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.scan_input import existing, say_findings, warn_of
from ptycho_adapters.command_line.scan_source import add_scan_options, read_source
from ptycho_adapters.command_line.text_values import read_text
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_adapters.common.bars import bars_drawn, counted
from ptycho_adapters.common.findings import poor_fit
from ptycho_adapters.ptychi.engines import MOST_MODES, Engine, RefineSettings
from ptycho_adapters.ptychi.installation import require, version
from ptycho_adapters.ptychi.start import cold_start, start_from
from ptycho_adapters.wording import shown_value

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from ptycho_adapters.ptychi.start import Start
    from ptycho_core.measurement.findings import Finding
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.product import Product
    from ptycho_core.results.reconstruction import Reconstruction

HELP = "go on from a result, or from nothing, with an iterative solver (pty-chi)"
USAGE = "ptycho refine --scan FILE --output-dir FOLDER [--result FILE] [flags]"
_EPOCHS = 20
_PRODUCT_NAME = "object.h5"
_UNIT = "mean squared error of the amplitude, as pty-chi counts it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    default = RefineSettings()
    parser.add_argument("--scan", metavar="FILE", help="the measured data (required)")
    parser.add_argument(
        "--result",
        metavar="FILE",
        help=f"product ({_PRODUCT_NAME}) of the same scan to start from, or the folder that holds one "
        "(default: a flat object under the scan's own probe)",
    )
    parser.add_argument("--output-dir", metavar="PATH", help="folder for what comes of it (required)")
    parser.add_argument("--engine", metavar="NAME", help=f"{', '.join(Engine)} (default: {default.engine})")
    parser.add_argument("--epochs", metavar="INTEGER", help=f"passes over all patterns (default: {_EPOCHS})")
    parser.add_argument(
        "--batch-size",
        metavar="INTEGER",
        help=f"patterns per update; for dm, which has one update an epoch, patterns at a time "
        f"(default: {default.batch_size})",
    )
    parser.add_argument("--position-refinement", action="store_true", help="move the positions too")
    parser.add_argument(
        "--probe-modes", metavar="INTEGER", help=f"incoherent modes, 1 to {MOST_MODES} (default: as the start has)"
    )
    parser.add_argument("--quiet", "--no-progress-bar", action="store_true", help="no progress bar")
    add_scan_options(parser)


def run(typed: Mapping[str, object]) -> None:
    """Refine, write the result and report.

    Raises:
        PtychoError: the user's input cannot be used, or pty-chi is not installed.
        OSError: from the file system.
        FloatingPointError: the engine diverged.
    """
    source, folder = _required(typed, "scan"), _required(typed, "output_dir")
    settings, epochs = read_settings(typed), _whole(typed, "epochs", _EPOCHS)
    named = None if typed.get("result") is None else Path(str(typed["result"]))
    require()
    existing(source, "Scan")
    product = None if named is None else _read_result(named)
    scan = read_source(typed, source)
    start = cold_start(scan) if product is None else start_from(product, scan)
    found = say_findings(source, scan)
    from ptycho_adapters.ptychi.result import refine  # noqa: PLC0415 - torch takes seconds

    with bars_drawn(wanted=not typed.get("quiet")):
        result, errors = refine(scan, start, settings, counted(epochs, f"{settings.engine}"))
    poor = tuple(poor_fit(result.metrics))
    warn_of(poor, source)
    chosen = {**_words(settings), "epochs": epochs}
    _report(
        product_of(result, scan, start, errors, chosen, (*found, *poor)),
        folder,
        inputs={"scan": source} | ({} if named is None else {"result": named}),
        settings=chosen,
        seconds=sum(result.seconds.values()),
    )


def read_settings(typed: Mapping[str, object]) -> RefineSettings:
    """Read how pty-chi is to run from a parsed command line.

    Raises:
        UsageError: a value is not valid.
    """
    default = RefineSettings()
    engine = str(typed.get("engine") or default.engine)
    if engine not in set(Engine):
        raise UsageError(f"--engine: expected one of {', '.join(Engine)}, found {engine!r}")
    modes = None if typed.get("probe_modes") is None else _whole(typed, "probe_modes", 1, most=MOST_MODES)
    return RefineSettings(
        engine=Engine(engine),
        batch_size=_whole(typed, "batch_size", default.batch_size),
        position_refinement=bool(typed.get("position_refinement")),
        quiet_epochs=default.quiet_epochs if typed.get("result") is None else 0,
        probe_modes=modes,
    )


def product_of(
    result: Reconstruction,
    scan: Scan,
    start: Start,
    errors: Sequence[float],
    settings: Mapping[str, object],
    findings: tuple[Finding, ...],
) -> Product:
    """Return a refinement as a product, with its error over the epochs."""
    from ptycho_core.results.conversion import as_product  # noqa: PLC0415 - with the rest that a run needs
    from ptycho_core.results.run_details import RunDetails  # noqa: PLC0415

    return attrs.evolve(
        as_product(result, scan.metadata),
        loss_epochs=list(range(len(errors))),
        loss_values=list(errors),
        provenance=dict.fromkeys(settings, "ptycho refine"),
        run=RunDetails(
            first_probe=start.probe,
            r_factors=result.r_factors,
            epoch_steps=np.arange(1.0, len(errors) + 1.0),
            loss_unit=_UNIT,
            settings={name: shown_value(value) for name, value in settings.items()},
            findings=findings,
        ),
    )


def _report(
    product: Product,
    folder: Path,
    *,
    inputs: Mapping[str, Path],
    settings: Mapping[str, object],
    seconds: float,
) -> None:
    from ptycho_adapters.report.results import write_reconstruction  # noqa: PLC0415 - h5py and matplotlib
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    errors = product.loss_values.tolist()
    summary = Summary(
        command="refine",
        title=f"refined {inputs['scan']}: {len(product.positions_px)} patterns of {product.probe.shape[-1]} px",
        figures={
            **product.metrics,
            "start": "result" if "result" in inputs else "flat object",
            "first_error": errors[0],
            "last_error": errors[-1],
            "seconds": seconds,
            "solver": f"pty-chi {version()}",
        },
        inputs=inputs,
        settings=settings,
        findings=() if product.run is None else product.run.findings,
    )
    told = console.summary(summary.title, summary.figures, [])
    written = attrs.evolve(summary, figures={**summary.figures, "error_of_epoch": tuple(errors)})
    folder.mkdir(parents=True, exist_ok=True)
    files = write_reconstruction(product, written, folder)
    console.tell("\n".join([told, *(f"wrote {path}" for path in files)]))


def _words(settings: RefineSettings) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Engine) else value for name, value in attrs.asdict(settings).items()}


def _read_result(path: Path) -> Product:
    from ptycho_adapters.files import read_product  # noqa: PLC0415 - h5py

    return read_product(existing(path / _PRODUCT_NAME if (path / _PRODUCT_NAME).is_file() else path, "Result"))


def _required(typed: Mapping[str, object], name: str) -> Path:
    if typed.get(name) is None:
        raise UsageError(f"{kebab(name)} is required")
    return Path(str(typed[name]))


def _whole(typed: Mapping[str, object], name: str, default: int, *, most: float = math.inf) -> int:
    text = typed.get(name)
    value = default if text is None else read_text(str(text), int)
    if not isinstance(value, int) or not 1 <= value <= most:
        upper = "" if math.isinf(most) else f" and <= {most:g}"
        raise UsageError(f"{kebab(name)}: expected a whole number >= 1{upper}, found {text!r}")
    return value
