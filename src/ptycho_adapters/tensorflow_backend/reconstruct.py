"""A trained model on a scan: each step of the generator passes every pattern once and stitches as it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.common.bars import bars_drawn
from ptycho_adapters.common.candidates import COVERED, candidate_probes, chosen_patterns
from ptycho_adapters.common.findings import beam_moved, poor_fit
from ptycho_adapters.stages import stage
from ptycho_adapters.tensorflow_backend.execution import device_of, prepare_process
from ptycho_adapters.tensorflow_backend.memory import check_reconstruction, check_residency
from ptycho_adapters.tensorflow_backend.patterns import Patterns, beam_energy
from ptycho_adapters.tensorflow_backend.whole_scan import PassRunner, WholeScan, patterns_at_once
from ptycho_core.config import DataConfig, PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.backend_limits import beyond_records
from ptycho_core.config.table import INFERENCE
from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.measurement.suspicions import screened_findings
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.common.candidates import CandidateProbe, Judgement
    from ptycho_adapters.tensorflow_backend.trained_model import TrainedModel
    from ptycho_adapters.tensorflow_backend.whole_scan import Passed
    from ptycho_core.measurement.scan import Scan

_STAGES = ("prepare", "network and stitching", "judge")
_JUDGED_PATTERNS = 64


def reconstruct(
    model: TrainedModel,
    scan: Scan,
    *,
    execution_config: PyTorchExecutionConfig | None = None,
    inference_config: TorchInferenceConfig | None = None,
    data_config: DataConfig | None = None,
) -> Reconstruction:
    """Reconstruct a scan with a trained model; probe and positions are taken as they are.

    Args:
        model: network and probe.
        scan: patterns of the size that the model was trained on.
        execution_config: device, threads, batch size; defaults apply when it is None.
        inference_config: probe source, weighting and which patterns to use; defaults apply when it is None, but that
            the beam is not looked for under a probe that was learned without.
        data_config: seed of the choice of patterns, if it has one of its own.

    Returns:
        The object on a canvas that covers every patch.

    Raises:
        ConfigError: a setting is other than its default, and this backend does not honour it.
        ScanError: the scan's patterns are not of the model's size.
        DependencyError: the device is not available.
        MemoryShortageError: it does not fit into the memory that is free.
    """
    execution, settings = execution_config or PyTorchExecutionConfig(), inference_config or model.inference_defaults
    clock = [time.perf_counter()]
    _check(model, scan, settings, execution)
    prepare_process(execution)
    chosen = chosen_patterns(scan, settings, None if data_config is None else data_config.subsample_seed)
    check_residency(scan, len(chosen))
    check_reconstruction(model.generator, scan, chosen, execution, batch_size=_batch_size(scan, execution, settings))
    with device_of(execution), bars_drawn(wanted=execution.enable_progress_bar):
        with stage("preparation", patterns=len(chosen)):
            run, taken = _first_pass(model, scan, chosen, execution, settings)
        clock.append(time.perf_counter())
        with stage("pass", patterns=len(chosen), batch=run.batch_size):
            made = run.stitch()
        clock.append(time.perf_counter())
        with stage("judgement", patterns=len(chosen)):
            judgement = run.judge(_where_lit(made).object)
        clock.append(time.perf_counter())
    result = _outward(run, taken, scan, _where_lit(made), judgement)
    return attrs.evolve(result, seconds=dict(zip(_STAGES, np.diff(clock).tolist(), strict=True)))


def _check(model: TrainedModel, scan: Scan, settings: TorchInferenceConfig, execution: PyTorchExecutionConfig) -> None:
    # Nothing in the third record, which says how large the data are, is beyond any backend.
    raise_if_any(ConfigError, "reconstruction", beyond_records("tensorflow", (settings, execution), INFERENCE))
    size = model.payload.pt_data_config.N
    if size != scan.N:
        problem = Problem(path="scan.patterns", expected=f"{size} px, as the model was trained", found=f"{scan.N} px")
        raise ScanError("reconstruction", [problem])


def _first_pass(
    model: TrainedModel,
    scan: Scan,
    chosen: NDArray[np.int64],
    execution: PyTorchExecutionConfig,
    settings: TorchInferenceConfig,
) -> tuple[WholeScan, CandidateProbe]:
    """Bring the patterns into order and choose the probe."""
    patterns = Patterns(scan, chosen, find_beam=settings.beam_search)
    wanted = settings.probe_source if model.probe_refined else "scan"
    probes = [each for each in candidate_probes(model, scan, patterns.flux) if wanted in ("auto", each.source)]
    start = WholeScan(
        runner=PassRunner(model.generator),
        patterns=patterns,
        probe=probes[0].probe,
        indices=chosen,
        batch_size=_batch_size(scan, execution, settings),
        uniform=settings.patch_weighting == "uniform",
        told=True,
    )
    taken = probes[0] if len(probes) == 1 else min(probes, key=lambda each: _deviance(start, each))
    return with_background(attrs.evolve(start, probe=taken.probe), settings.background_counts or 0.0), taken


def _batch_size(scan: Scan, execution: PyTorchExecutionConfig, settings: TorchInferenceConfig) -> int:
    return execution.inference_batch_size or settings.batch_size or patterns_at_once(scan.N)


def _deviance(start: WholeScan, candidate: CandidateProbe) -> float:
    """Judge a probe by how it explains some of the patterns."""
    few = attrs.evolve(start, probe=candidate.probe, indices=start.indices[:_JUDGED_PATTERNS], told=False)
    return few.judge(few.stitch().object).deviance


def with_background(run: WholeScan, background: float) -> WholeScan:
    """The same pass with a background, and the rest of the light in its probe."""
    factor = np.sqrt(beam_energy(run.patterns, background) / _energy(run.probe))
    return attrs.evolve(run, probe=(run.probe * factor).astype(np.complex64), background=background)


def _energy(probe: NDArray[np.complexfloating]) -> float:
    return float(np.square(np.abs(probe)).sum(dtype=np.float64))


def _where_lit(made: Passed) -> Passed:
    """Transparency and no coverage where too little light fell, in the network's scale, which is that of every scan."""
    lit = made.coverage > COVERED * made.coverage.max()
    return attrs.evolve(
        made,
        object=np.where(lit, made.object, np.complex64(1.0)),
        coverage=np.where(lit, made.coverage, np.float32(0.0)),
    )


def _outward(run: WholeScan, taken: CandidateProbe, scan: Scan, made: Passed, judgement: Judgement) -> Reconstruction:
    """Put a result into the scale of the scan's own probe and into the frame of the stored patterns."""
    scale = float(np.sqrt(_energy(run.probe) / _energy(scan.probe)))
    beam_px, metrics = run.patterns.beam_px, judgement.metrics
    origin_y, origin_x = run.origin.tolist()
    return Reconstruction(
        object=(made.object * scale).astype(np.complex64),
        coverage=made.coverage,
        origin_px=(origin_y, origin_x),
        probe=(run.probe * _beam_slope(beam_px, run.patterns.size) / scale).astype(np.complex64),
        probe_source=taken.source,
        probe_number=taken.number,
        positions_px=scan.positions_px[run.indices],
        given_positions_px=scan.positions_px[run.indices],
        background_counts=run.background,
        beam_px=beam_px,
        pattern_indices=run.indices,
        scale=scale,
        metrics=metrics,
        r_factors=judgement.r_factors,
        findings=(*screened_findings(scan), *poor_fit(metrics), *beam_moved(beam_px)),
    )


def _beam_slope(beam_px: tuple[int, int], size: int) -> NDArray[np.complex128]:
    """Slope of phase (size, size), 1 at the middle, that moves a probe's far field by (y, x) pixels."""
    place = np.arange(size) - (size - 1) / 2
    slope: NDArray[np.complex128] = np.exp(2j * np.pi / size * (beam_px[0] * place[:, None] + beam_px[1] * place))
    return slope
