"""`ptycho evaluate SCAN --model-path MODEL`: how far the data carry, where there is no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.scan_input import existing
from ptycho_adapters.files import read_scan
from ptycho_core.errors import Problem, ProblemsError, ScanError, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.commands.evaluate import Area
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.alignment import ComparisonSettings
    from ptycho_core.results.metrics import Comparison


def compare_halves(source: Path, model_path: Path, folder: Path, area: Area, settings: ComparisonSettings) -> None:
    """Reconstruct two halves of a scan with a model, compare them, write the evaluation and report.

    Args:
        source: scan file.
        model_path: archive, or the folder that holds one.
        folder: where the evaluation goes.
        area: what is judged, region excepted.
        settings: how the gauge between the halves is removed.

    Raises:
        PtychoError: the scan or the model cannot be used.
        FileNotFoundError: one of them is missing.
    """
    from ptycho_adapters.report.results import Summary, write_evaluation  # noqa: PLC0415 - h5py and matplotlib

    scan = read_scan(existing(source, "Scan"))
    comparison = _agreement(scan, source, model_path, area, settings)
    summary = Summary(
        command="evaluate",
        title=f"compared the reconstructions of two halves of {source}: {comparison.n_pixels} pixels",
        figures=comparison.figures(),
        inputs={"scan": source, "model_path": model_path},
        settings=attrs.asdict(area) | attrs.asdict(settings),
    )
    files = write_evaluation(comparison, summary, folder)
    console.tell(console.summary(summary.title, summary.figures, files))


def _agreement(scan: Scan, source: Path, model_path: Path, area: Area, settings: ComparisonSettings) -> Comparison:
    from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415 - torch takes seconds
    from ptycho_adapters.torch_backend.inference.consistency import split_half_agreement  # noqa: PLC0415

    model = load_archive(model_path)
    try:
        return split_half_agreement(
            model, scan, threshold=area.coverage_threshold, margin_px=area.margin_px, settings=settings
        )
    except ScanError as error:
        raise ScanFileError(str(source), error.problems) from error
    except ProblemsError:  # a ValueError too, which speaks for itself
        raise
    except ValueError as error:
        problem = Problem(path="halves", expected="a common area with structure", found=str(error))
        raise ScanFileError(str(source), [problem]) from error
