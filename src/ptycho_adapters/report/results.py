"""What the commands leave behind: sets of files that are written together or not at all."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.atomic import Writer, commit_files
from ptycho_adapters.files.images.pictures import (
    write_amplitude_png,
    write_comparison_png,
    write_complex_tiff,
    write_phase_png,
    write_probe_png,
    write_side_by_side_png,
    write_uncertainty_tiff,
)
from ptycho_adapters.files.products.hdf5 import write_product_file
from ptycho_adapters.plotting.curves import training_curves
from ptycho_adapters.plotting.files import write_loss_png
from ptycho_adapters.report.page import write_report_file
from ptycho_adapters.report.reporting import REPORT_NAME, report_of, settings_as_text
from ptycho_adapters.report.summary import figures_in_json
from ptycho_core.config.bridge import settings_of
from ptycho_core.config.main_term import main_term_name
from ptycho_core.results.conversion import as_product
from ptycho_core.results.run_details import RunDetails

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ptycho_adapters.common.model import ModelRecord
    from ptycho_adapters.report.summary import Summary
    from ptycho_core.config.payload import InferencePayload
    from ptycho_core.measurement.findings import Finding
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.product import Product
    from ptycho_core.results.reconstruction import Reconstruction

PRODUCT_NAME = "object.h5"
SUMMARY_NAME = "summary.json"
RESULT_NAMES = (PRODUCT_NAME, "object.tif", "amplitude.png", "phase.png", REPORT_NAME, SUMMARY_NAME)
"""Files that a reconstruction leaves, all of them together."""

UNCERTAINTY_NAME = "uncertainty.tif"
"""Beside them where the uncertainty is known."""

EVALUATION_NAME = "evaluation.json"

_LOSS_UNIT = {
    "poisson": "Poisson deviance per pixel",
    "mae": "mean absolute amplitude error",
    "supervised": "mean absolute error of the object",
}


def write_training_pictures(model: ModelRecord, summary: Summary, folder: Path) -> list[Path]:
    """Write `probe.png` of the first scan, `loss.png` and `summary.json` of a training.

    Returns:
        The files.
    """
    losses = training_curves(model.history, model.step_losses)
    unit = _LOSS_UNIT[main_term_name(model.payload)]
    title = "Refined probe" + (f" of the first of {len(model.probes)} scans" if len(model.probes) > 1 else "")
    probe, loss, report = folder / "probe.png", folder / "loss.png", folder / SUMMARY_NAME
    commit_files(
        {
            probe: lambda path: write_probe_png(model.probe, path, title=title),
            loss: lambda path: write_loss_png(losses, path, unit=unit),
            report: lambda path: _write(path, summary.to_json()),
        }
    )
    return [probe, loss, report]


def product_of(
    reconstruction: Reconstruction,
    model: ModelRecord,
    scan: Scan,
    payload: InferencePayload,
    *,
    findings: tuple[Finding, ...] = (),
) -> Product:
    """Return a reconstruction as a product, with the model's loss curve and the source of every setting.

    Args:
        reconstruction: the result.
        model: that made it.
        scan: that it was made from.
        payload: settings of the run.
        findings: what may be wrong with the scan or the fit, or was put right.
    """
    return attrs.evolve(
        as_product(reconstruction, scan.metadata),
        loss_epochs=[row.epoch for row in model.history],
        loss_values=[row.train for row in model.history],
        provenance={key: str(layer) for key, layer in sorted(payload.provenance.items())},
        run=attrs.evolve(
            _run_details(reconstruction, model, payload),
            first_probe=_first_probe(reconstruction, model, scan),
            findings=findings,
        ),
    )


def _run_details(reconstruction: Reconstruction, model: ModelRecord, payload: InferencePayload) -> RunDetails:
    return RunDetails(
        before_finish=reconstruction.before_finish,
        r_factors=reconstruction.r_factors,
        epoch_steps=[row.steps for row in model.history],
        loss_steps=[row.step for row in model.step_losses],
        step_losses=[row.train for row in model.step_losses],
        held_out_losses=[math.nan if row.validation is None else row.validation for row in model.history],
        loss_unit=_LOSS_UNIT[main_term_name(model.payload)],
        settings=settings_as_text(settings_of(*payload.records)),
    )


def _first_probe(reconstruction: Reconstruction, model: ModelRecord, scan: Scan) -> NDArray[np.complex64] | None:
    """Return the probe as it was before anybody refined it, in a training or here; None where nobody did."""
    number = reconstruction.probe_number
    if number is not None:
        return _at_flux_of(reconstruction.probe, model.probes[number].start_probe)
    return _at_flux_of(reconstruction.probe, scan.probe) if reconstruction.probe_refined else None


def _at_flux_of(probe: NDArray[np.complex64], other: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Return another probe at the photons of this one."""
    flux, its_flux = (float(np.square(np.abs(each.astype(np.complex128))).sum()) for each in (probe, other))
    scaled: NDArray[np.complex64] = (other * math.sqrt(flux / its_flux)).astype(np.complex64)
    return scaled


def write_reconstruction(
    product: Product,
    summary: Summary,
    folder: Path,
    *,
    comparison: Comparison | None = None,
    first: Comparison | None = None,
) -> list[Path]:
    """Write `object.h5`, `object.tif`, `amplitude.png`, `phase.png`, `report.html` and `summary.json` together.

    `uncertainty.tif` is among them where it is known.

    Args:
        product: the result.
        summary: what the command says.
        folder: where to.
        comparison: the result against a reference, if there is one.
        first: the network's object against it, where a finish changed that.

    Returns:
        The files.
    """
    coverage = product.coverage if product.coverage is not None else abs(product.object)
    origin = product.origin_px
    writers: tuple[Writer, ...] = (
        lambda path: write_product_file(product, path),
        lambda path: write_complex_tiff(product.object, path),
        lambda path: write_amplitude_png(product.object, coverage, path, origin_px=origin),
        lambda path: write_phase_png(product.object, coverage, path, origin_px=origin),
        lambda path: write_report_file(report_of(summary, product, comparison, first), path),
        lambda path: _write(path, summary.to_json()),
    )
    files = {folder / name: write for name, write in zip(RESULT_NAMES, writers, strict=True)}
    if product.uncertainty is not None:
        known = product.uncertainty
        files[folder / UNCERTAINTY_NAME] = lambda path: write_uncertainty_tiff(known, path)
    commit_files(files)
    if product.uncertainty is None:
        # Of a result that lay here before.
        (folder / UNCERTAINTY_NAME).unlink(missing_ok=True)
    return list(files)


def write_evaluation(
    comparison: Comparison, summary: Summary, folder: Path, *, product: Product | None = None
) -> list[Path]:
    """Write `evaluation.json`, `comparison.png` and `report.html` together; creates the folder.

    Args:
        comparison: the result against the reference.
        summary: what the command says.
        folder: where to.
        product: the result with everything around it, where it is known.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, picture, page = folder / EVALUATION_NAME, folder / "comparison.png", folder / REPORT_NAME
    headline = {"phase": comparison.phase_correlation, "amplitude": comparison.amplitude_correlation}
    commit_files(
        {
            record: lambda path: _write(path, summary.to_json()),
            page: lambda path: write_report_file(report_of(summary, product, comparison), path),
            picture: lambda path: write_comparison_png(
                comparison.reconstruction,
                comparison.reference,
                comparison.mask,
                path,
                figures={f"{name} correlation": value for name, value in headline.items()},
            ),
        }
    )
    return [record, picture, page]


def write_side_by_side(comparisons: Mapping[str, Comparison], folder: Path) -> list[Path]:
    """Write `side_by_side.json` and `side_by_side.png` of several results compared with one reference.

    Args:
        comparisons: each with the same reference, by a name.
        folder: where to; it is there.

    Returns:
        The files.
    """
    record, picture = folder / "side_by_side.json", folder / "side_by_side.png"
    figures = {name: figures_in_json(each.figures()) for name, each in comparisons.items()}
    commit_files(
        {
            record: lambda path: _write(path, (json.dumps(figures, indent=2) + "\n").encode()),
            picture: lambda path: write_side_by_side_png(comparisons, path),
        }
    )
    return [record, picture]


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
