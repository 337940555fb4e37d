"""Before and after a pass over a whole scan: patterns and probes to choose from, and how well an object fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ptycho_adapters.common.model import ModelRecord
    from ptycho_core.config import TorchInferenceConfig
    from ptycho_core.measurement.scan import Scan

COVERED = 3e-2
"""Share of the largest coverage below which a pixel has seen too little light for a value worth showing."""


@attrs.frozen(kw_only=True, eq=False)
class Judgement:
    """How well an object explains the patterns: figures over all of them, and the R-factor of each, (n,) float64."""

    metrics: dict[str, float]
    r_factors: NDArray[np.float64]

    @property
    def deviance(self) -> float:
        """Of the counts, per pixel."""
        return self.metrics["deviance_per_px"]

    @property
    def misfit_ratio(self) -> float:
        """Deviance over what shot noise leaves; 1 is a perfect fit."""
        return self.deviance / self.metrics["expected_deviance_per_px"]

    @property
    def excess(self) -> float:
        """Deviance above what shot noise leaves."""
        return self.deviance - self.metrics["expected_deviance_per_px"]


def chosen_patterns(scan: Scan, settings: TorchInferenceConfig, subsample_seed: int | None = None) -> NDArray[np.int64]:
    """Scan indices that take part, sorted: all, unless a subsample or a number of groups asks for fewer.

    Args:
        scan: patterns to choose from.
        settings: how many, and the seed of the run.
        subsample_seed: seed of the choice; None takes that of the run.
    """
    wanted = min(scan.n_patterns, settings.n_subsample or scan.n_patterns, settings.n_groups or scan.n_patterns)
    if wanted == scan.n_patterns:
        return np.arange(scan.n_patterns)
    seed = settings.seed if subsample_seed is None else subsample_seed
    chosen: NDArray[np.int64] = np.random.default_rng(seed).permutation(scan.n_patterns)[:wanted]
    return np.sort(chosen)


@attrs.frozen(kw_only=True, eq=False)
class CandidateProbe:
    """A probe that a scan may have been taken with.

    Attributes:
        source: whose it is.
        number: of the probe among those of the model; None for the scan's own.
        probe: (modes, N, N) complex64, at the scan's flux.
    """

    source: Literal["model", "scan"]
    number: int | None
    probe: NDArray[np.complex64]


def candidate_probes(model: ModelRecord, scan: Scan, flux: float) -> list[CandidateProbe]:
    """All probes at the scan's flux: the refined ones of the model, and the scan's own."""
    own = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    refined = [
        CandidateProbe(
            source="model", number=number, probe=(each.probe * np.sqrt(flux / each.flux)).astype(np.complex64)
        )
        for number, each in enumerate(model.probes)
    ]
    measured = (scan.probe * np.sqrt(flux / own)).astype(np.complex64)
    return [*refined, CandidateProbe(source="scan", number=None, probe=measured)]
