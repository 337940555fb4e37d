"""How far the data carry, where there is no reference: two halves of a scan, each reconstructed by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.common.consistency import split_half_agreement
from ptycho_adapters.frameworks import framework, model_with_backend
from ptycho_core.errors import Problem, ProblemsError, ScanError, ScanFileError
from ptycho_core.measurement.suspicions import screened_findings

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.evaluation.area import Area
    from ptycho_core.measurement.findings import Finding
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.alignment import ComparisonSettings
    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.reconstruction import Reconstruction

_HALVES = ("first", "second")


def compare_halves(
    scan: Scan, archive: Path | None, area: Area, settings: ComparisonSettings, *, name: str
) -> tuple[Comparison, tuple[Finding, ...]]:
    """Reconstruct two interleaved halves of a scan with a model and compare them.

    Args:
        scan: patterns of the size that the model was trained on.
        archive: of the model; None takes the package's own network.
        area: what is judged, region excepted.
        settings: how the gauge between the halves is removed.
        name: of the scan, for messages.

    Returns:
        How the second half agrees with the first, and what was found in the reconstruction of which half.

    Raises:
        PtychoError: the scan or the model cannot be used.
    """
    if archive is None:
        backend = framework("pytorch")
        model = backend.generalist_for(scan)
    else:
        backend, model = model_with_backend(archive)
    found: list[tuple[Finding, ...]] = []

    def reconstructed(half: Scan) -> Reconstruction:
        result = backend.reconstruct(model, half)
        found.append(result.findings)
        return result

    try:
        comparison = split_half_agreement(
            reconstructed,
            scan,
            threshold=area.coverage_threshold,
            margin_px=area.margin_px,
            settings=settings,
        )
    except ScanError as error:
        raise ScanFileError(name, error.problems) from error
    except ProblemsError:  # a ValueError too, which speaks for itself
        raise
    except ValueError as error:
        problem = Problem(path="halves", expected="a common area with structure", found=str(error))
        raise ScanFileError(name, [problem]) from error
    known = frozenset(screened_findings(scan))
    told = [
        attrs.evolve(each, text=f"{half} half: {each.text}")
        for half, findings in zip(_HALVES, found, strict=True)
        for each in findings
        if each not in known
    ]
    return comparison, tuple(told)
