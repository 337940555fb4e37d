"""A trained model on a scan: each step of the generator passes every pattern once and stitches as it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.common.candidates import COVERED, CandidateProbe, Judgement, candidate_probes, chosen_patterns
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.execution import check_hardware, cpu_threads, pick_device
from ptycho_adapters.torch_backend.finish.finish import Finished, Wish, finish
from ptycho_adapters.torch_backend.finish.posterior import Measured
from ptycho_adapters.torch_backend.inference.findings import findings_of
from ptycho_adapters.torch_backend.inference.memory import check_reconstruction, check_residency
from ptycho_adapters.torch_backend.inference.preparation import Preparation, Prepared, prepare
from ptycho_adapters.torch_backend.inference.turns import ROUNDS_BEFORE_A_RECONSTRUCTION
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory, WholeScan
from ptycho_adapters.torch_backend.physics.optics import beam_slope, light_of
from ptycho_core.config import DataConfig, PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.results.uncertainty import Uncertainty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.torch_backend.finish.error_bars import ErrorBars
    from ptycho_adapters.torch_backend.trained_model import TrainedModel
    from ptycho_core.measurement.scan import Scan

_STAGES = ("prepare", "network and stitching", "finish", "judge")
_JUDGED_PATTERNS, _FOCUS_PATTERNS = 64, 64


def reconstruct(
    model: TrainedModel,
    scan: Scan,
    *,
    execution_config: PyTorchExecutionConfig | None = None,
    inference_config: TorchInferenceConfig | None = None,
    data_config: DataConfig | None = None,
) -> Reconstruction:
    """Reconstruct a scan with a trained model.

    Args:
        model: network and refined probes.
        scan: patterns of the size that the model was trained on.
        execution_config: device, precision, batch size; defaults apply when it is None.
        inference_config: probe source, weighting and which patterns to use; defaults apply when it is None.
        data_config: seed of the choice of patterns, if it has one of its own.

    Returns:
        The object on a canvas that covers every patch.

    Raises:
        ScanError: the scan's patterns are not of the model's size.
        DependencyError: the device is not available.
        MemoryShortageError: the patterns, their fields or the canvas do not fit into the memory that is free.
    """
    execution = execution_config or PyTorchExecutionConfig()
    settings = inference_config or TorchInferenceConfig()
    check_hardware(execution)
    clock = [time.perf_counter()]
    chosen = chosen_patterns(scan, settings, None if data_config is None else data_config.subsample_seed)
    _check(model, scan, len(chosen))
    check_residency(scan, len(chosen), execution)
    with torch.inference_mode(), cpu_threads(execution.num_threads):
        run, taken = _first_pass(model, scan, chosen, execution, settings)
        prepared = prepare(run, preparation_for(model, execution, settings))
        clock.append(time.perf_counter())
        object_, coverage = prepared.run.stitch()
        clock.append(time.perf_counter())
        prepared, found = _finished(prepared, object_, settings, show_progress=execution.enable_progress_bar)
        made = _where_lit(object_ if found is None else found.object, coverage)
        clock.append(time.perf_counter())
        result = _outward(prepared, taken, scan, made, prepared.run.judge(made[0]))
        if found is not None:
            result = _with_finish(result, found)
        clock.append(time.perf_counter())
    model.generator.to("cpu")
    return attrs.evolve(result, seconds=dict(zip(_STAGES, np.diff(clock).tolist(), strict=True)))


def _first_pass(
    model: TrainedModel,
    scan: Scan,
    chosen: NDArray[np.int64],
    execution: PyTorchExecutionConfig,
    settings: TorchInferenceConfig,
) -> tuple[WholeScan, CandidateProbe]:
    """Put network and patterns on the device and choose the probe."""
    device = pick_device(execution.accelerator)
    generator = model.generator.to(device).eval()
    resident = ResidentScan(scan, patterns=chosen, find_beam=settings.beam_search).to(device)
    make_pass = PassFactory(generator, resident, chosen, execution, settings)
    check_reconstruction(generator, scan, chosen, device, batch_size=make_pass.batch_size)
    wanted = settings.probe_source if model.probe_refined else "scan"
    probes = [each for each in candidate_probes(model, scan, resident.flux) if wanted in ("auto", each.source)]
    taken = _best_of(probes, make_pass)
    return make_pass(taken.probe, chosen), taken


def _check(model: TrainedModel, scan: Scan, n_patterns: int) -> None:
    size, together = model.payload.pt_data_config.N, model.generator.together
    problems = []
    if size != scan.N:
        problems.append(
            Problem(path="scan.patterns", expected=f"{size} px, as the model was trained", found=f"{scan.N} px")
        )
    if n_patterns < together:
        expected = f"at least {together}, which the network sees together"
        problems.append(Problem(path="scan.patterns", expected=expected, found=str(n_patterns)))
    raise_if_any(ScanError, "reconstruction", problems)


def _best_of(probes: list[CandidateProbe], make_pass: PassFactory) -> CandidateProbe:
    """Take the probe under which some of the patterns are explained best."""
    if len(probes) == 1:
        return probes[0]
    few = make_pass.chosen[:_JUDGED_PATTERNS]

    return min(probes, key=lambda candidate: make_pass(candidate.probe, few).judge_itself().deviance)


def preparation_for(
    model: TrainedModel, execution: PyTorchExecutionConfig, settings: TorchInferenceConfig
) -> Preparation:
    """What is found out before a reconstruction.

    Where nobody has refined the probe yet, its focus is looked for, and probe and positions are refined in some rounds;
    what a training refined stays as it is unless rounds are asked for, and so does a scan under a network of other
    software, which brings no probe and was made for the one of the scan as it is.
    """
    rounds = settings.probe_rounds
    if rounds is None:
        rounds = 0 if model.probe_refined or not model.probes else ROUNDS_BEFORE_A_RECONSTRUCTION
    return Preparation(
        focus_patterns=_FOCUS_PATTERNS if settings.probe_autofocus and rounds > 0 else 0,
        judged=True,
        probe_rounds=rounds,
        background_counts=settings.background_counts,
        positions=settings.position_refinement if rounds > 0 else "none",
        orientation=settings.orientation_search if rounds > 0 else "never",
        probe_search=settings.probe_search if rounds > 0 else "never",
        modes=settings.probe_modes if rounds > 0 else None,
        show_progress=execution.enable_progress_bar,
    )


def _finished(
    prepared: Prepared, object_: Tensor, settings: TorchInferenceConfig, *, show_progress: bool
) -> tuple[Prepared, Finished | None]:
    """Take an object (pixels,) further, and the probe with it where it was refined; None where nobody asked."""
    run, steps = prepared.run, settings.finish
    if steps == "none":
        return prepared, None
    measured = Measured(
        scan=run.scan,
        indices=run.indices,
        canvas=run.canvas,
        origin=run.origin,
        batch_size=run.batch_size,
        background=run.background,
    )
    wish = Wish(
        steps=steps,
        refine_probe=prepared.probe_refined,
        show_progress=show_progress,
        error_bars=settings.error_bars,
    )
    found = finish(measured, object_, run.probe, wish)
    return attrs.evolve(prepared, run=attrs.evolve(run, probe=found.probe)), found


def _with_finish(result: Reconstruction, found: Finished) -> Reconstruction:
    """Say how a finish went, and how far its object may be off."""
    said = {"finish_steps": float(found.steps)}
    if found.gain is not None:
        said["finish_gain"] = found.gain
    uncertainty = None if found.error_bars is None else _uncertainty(found.error_bars, result)
    if uncertainty is not None:
        said["median_phase_std_rad"] = uncertainty.median_phase_std_rad
    return attrs.evolve(result, metrics={**result.metrics, **said}, uncertainty=uncertainty)


def _uncertainty(bars: ErrorBars, result: Reconstruction) -> Uncertainty:
    """Put error bars into the scale of a result; nothing is known where nothing was measured."""

    def shown(values: Tensor, unknown: float) -> NDArray[np.float32]:
        by_pixel = values.reshape(result.object.shape).cpu().numpy()
        return np.where(result.covered, by_pixel, np.float32(unknown)).astype(np.float32)

    return Uncertainty(
        phase_std_rad=shown(bars.phase, np.inf),
        amplitude_std=shown(bars.amplitude * result.scale, np.inf),
        prior_share=shown(bars.prior_share, 1.0),
    )


def _outward(
    prepared: Prepared, taken: CandidateProbe, scan: Scan, made: tuple[Tensor, Tensor], judgement: Judgement
) -> Reconstruction:
    """Put a result into the scale of the scan's own probe and into the frame of the stored patterns."""
    run, (object_, coverage) = prepared.run, made
    scale = _outward_scale(run, scan)
    shape, (origin_y, origin_x) = (run.canvas.height, run.canvas.width), run.origin.tolist()
    probe = run.probe * beam_slope(run.scan.beam_px, run.scan.size).to(run.probe.device) / scale
    chosen = run.indices.cpu().numpy()
    return Reconstruction(
        object=(object_ * scale).reshape(shape).cpu().numpy(),
        coverage=coverage.reshape(shape).cpu().numpy(),
        origin_px=(origin_y, origin_x),
        probe=probe.cpu().numpy().astype(np.complex64),
        probe_source=taken.source,
        probe_number=taken.number,
        positions_px=run.positions_px().cpu().numpy() if _moved(prepared) else scan.positions_px[chosen],
        given_positions_px=scan.positions_px[chosen],
        background_counts=run.background,
        beam_px=run.scan.beam_px,
        pattern_indices=chosen,
        scale=scale,
        metrics=judgement.metrics,
        r_factors=judgement.r_factors,
        findings=tuple(findings_of(prepared, judgement.metrics)),
    )


def _where_lit(object_: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
    """Transparency and no coverage where too little light fell, in the network's scale, which is that of every scan."""
    lit = coverage > COVERED * coverage.max()
    return torch.where(lit, object_, torch.ones_like(object_)), torch.where(lit, coverage, torch.zeros_like(coverage))


def _moved(prepared: Prepared) -> bool:
    return prepared.moved_px > 0.0 or prepared.orientation is not None


def _outward_scale(run: WholeScan, scan: Scan) -> float:
    """Factor that turns the network's object into the one that belongs to the scan's own probe."""
    inside = float(light_of(run.probe).sum(dtype=torch.float64))
    own = float(np.square(np.abs(scan.probe.astype(np.complex128))).sum())
    return float(np.sqrt(inside / own))
