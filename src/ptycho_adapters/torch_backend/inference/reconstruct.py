"""A trained model on a scan: each step of the generator passes every pattern once and stitches as it goes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho_adapters.common.bars import Bar, bars_drawn
from ptycho_adapters.common.candidates import CandidateProbe, candidate_probes, chosen_patterns
from ptycho_adapters.common.shipped import knows_faults, shipped_prior_law
from ptycho_adapters.crew import Crew
from ptycho_adapters.stages import stage
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.execution import check_hardware, cpu_threads, pick_device
from ptycho_adapters.torch_backend.finish.error_bars import ErrorBars
from ptycho_adapters.torch_backend.finish.finish import Wish, finish
from ptycho_adapters.torch_backend.inference.findings import findings_of
from ptycho_adapters.torch_backend.inference.memory import check_reconstruction, check_residency
from ptycho_adapters.torch_backend.inference.preparation import Preparation, Prepared, prepare, stray_of
from ptycho_adapters.torch_backend.inference.together import shared_out, take_part
from ptycho_adapters.torch_backend.inference.turns import ROUNDS_BEFORE_A_RECONSTRUCTION, ROUNDS_OF_A_NEW_PROBE
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory, WholeScan, check_finite, where_lit
from ptycho_adapters.torch_backend.physics.optics import beam_slope, light_of
from ptycho_adapters.torch_backend.sharing import heard, joined, lost_processes_named, told_by_the_first
from ptycho_adapters.torch_backend.trained_model import TrainedModel  # noqa: TC001 - signatures are read at run time too
from ptycho_core.config import DataConfig, PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.measurement.scan import Scan  # noqa: TC001 - signatures are read at run time too
from ptycho_core.measurement.suspicions import screened_findings
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.results.uncertainty import Uncertainty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.common.prior_law import PriorLaw

_STAGES = ("prepare", "network and stitching", "finish", "judge")
_JUDGED_PATTERNS, _FOCUS_PATTERNS = 64, 64
_ROUGH_PATTERNS, _FAR_BEHIND = 16, 1.5  # of the least deviance after one step


def reconstruct(
    model: TrainedModel,
    scan: Scan,
    *,
    execution_config: PyTorchExecutionConfig | None = None,
    inference_config: TorchInferenceConfig | None = None,
    data_config: DataConfig | None = None,
) -> Reconstruction:
    """Reconstruct a scan with a trained model.

    With several devices a process for each goes through its part of the patterns on a canvas of its own; the canvases
    are added up once in each step of the network. What is found out before, and a finish, is the first one's. All of
    them give the same result.

    Args:
        model: network and refined probes.
        scan: patterns of the size that the model was trained on.
        execution_config: device, precision, batch size; defaults apply when it is None.
        inference_config: probe source, weighting and which patterns to use; defaults apply when it is None, but that
            the beam is not looked for under probes that were learned without.
        data_config: seed of the choice of patterns, if it has one of its own.

    Returns:
        The object on a canvas that covers every patch.

    Raises:
        ScanError: the scan's patterns are not of the model's size.
        DependencyError: the device is not available.
        MemoryShortageError: the patterns, their fields or the canvas do not fit into the memory that is free.
        ConfigError: a generator of another package fails on the patterns.
        NotFiniteError: the network gives NaN or infinity.
    """
    execution = execution_config or PyTorchExecutionConfig()
    settings = inference_config or model.inference_defaults
    check_hardware(execution)
    clock = [time.perf_counter()]
    crew = joined(execution)
    chosen = chosen_patterns(scan, settings, None if data_config is None else data_config.subsample_seed)
    _check(model, scan, len(chosen))
    check_residency(scan, len(chosen), execution)
    with _at_work(execution, crew):
        make_pass = _pass_factory(model, scan, _Part(chosen=chosen, crew=crew), execution, settings)
        if not crew.leads:
            take_part(make_pass, crew, judged=settings.finish == "none")
            model.generator.to("cpu")
            return heard(Reconstruction, crew)
        with stage("preparation", patterns=len(chosen)) as course:
            run, taken = _with_a_probe(model, scan, make_pass, settings)
            prepared = prepare(run, preparation_for(model, settings))
            course.count(device=run.probe.device.type, probe=taken.source)
        prepared = attrs.evolve(prepared, run=shared_out(prepared.run, crew))
        clock.append(time.perf_counter())
        with stage("pass", patterns=len(chosen), steps=len(model.generator.steps()), batch=run.batch_size):
            with Bar("network and stitching", of=prepared.run.looks, stays=False) as bar:
                object_, coverage = prepared.run.stitch(bar=bar)
            check_finite(object_, model.generator)
        clock.append(time.perf_counter())
        if settings.finish != "none":
            prepared = attrs.evolve(prepared, run=attrs.evolve(prepared.run, crew=Crew()))
        ended = _finished(prepared, object_, settings, model.prior_law)
        clock.append(time.perf_counter())
        with stage("judgement", patterns=len(chosen)):
            result = _outward(ended, taken, scan, coverage)
        clock.append(time.perf_counter())
        model.generator.to("cpu")
        result = attrs.evolve(result, seconds=dict(zip(_STAGES, np.diff(clock).tolist(), strict=True)))
        return told_by_the_first(result, crew)


@contextmanager
def _at_work(execution: PyTorchExecutionConfig, crew: Crew) -> Iterator[None]:
    """Everything that holds for a whole reconstruction."""
    with (
        torch.inference_mode(),
        cpu_threads(execution.num_threads),
        lost_processes_named(crew),
        bars_drawn(wanted=execution.enable_progress_bar),
    ):
        yield


@attrs.frozen(kw_only=True, eq=False)
class _Part:
    """Patterns (n,) that take part in a pass, and the processes that share them."""

    chosen: NDArray[np.int64]
    crew: Crew = attrs.field(factory=Crew)

    @property
    def slice(self) -> slice:
        own = self.crew.share(len(self.chosen))
        return slice(own.start, own.stop)


def first_pass(
    model: TrainedModel,
    scan: Scan,
    chosen: NDArray[np.int64],
    execution: PyTorchExecutionConfig,
    settings: TorchInferenceConfig,
) -> tuple[WholeScan, CandidateProbe]:
    """Put network and patterns on the device and choose the probe, in this process alone."""
    return _with_a_probe(model, scan, _pass_factory(model, scan, _Part(chosen=chosen), execution, settings), settings)


def _pass_factory(
    model: TrainedModel,
    scan: Scan,
    part: _Part,
    execution: PyTorchExecutionConfig,
    settings: TorchInferenceConfig,
) -> PassFactory:
    """Put network and patterns on the device; of processes that only take part in the pass, their own patterns."""
    chosen = part.chosen
    device = pick_device(execution.accelerator)
    generator = model.generator.to(device).eval()
    kept = chosen if part.crew.leads or generator.together > 1 else chosen[part.slice]
    resident = ResidentScan(scan, patterns=kept, find_beam=settings.beam_search).to(device)
    make_pass = PassFactory(generator, resident, chosen, execution, settings)
    finished = settings.finish != "none"
    check_reconstruction(generator, scan, chosen, device, batch_size=make_pass.batch_size, finished=finished)
    return make_pass


def _with_a_probe(
    model: TrainedModel, scan: Scan, make_pass: PassFactory, settings: TorchInferenceConfig
) -> tuple[WholeScan, CandidateProbe]:
    """Choose the probe."""
    resident, chosen = make_pass.scan, make_pass.chosen
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
    """Take the probe under which some of the patterns are explained best; a rough look leaves out who is far behind."""
    if len(probes) == 1:
        return probes[0]
    looks = [make_pass(each.probe, make_pass.chosen).around_the_middle(_ROUGH_PATTERNS) for each in probes]
    rough = [look.judge_itself(steps=1).deviance for look in looks]
    left = [each for each, deviance in zip(probes, rough, strict=True) if deviance <= _FAR_BEHIND * min(rough)]
    if len(left) == 1:
        return left[0]
    few = make_pass.chosen[:_JUDGED_PATTERNS]
    return min(left, key=lambda candidate: make_pass(candidate.probe, few).judge_itself().deviance)


def preparation_for(model: TrainedModel, settings: TorchInferenceConfig) -> Preparation:
    """What is found out before a reconstruction.

    Under the shipped network and what was trained from it, the focus is looked for, and probe and positions are refined
    in some rounds. A training makes these no less needed: it may have had no time for the probe, it hands on no
    positions, and the next scan has faults of its own. Under any other network all stays unless rounds are asked for.
    """
    rounds = settings.probe_rounds
    if rounds is None:
        rounds = ROUNDS_BEFORE_A_RECONSTRUCTION if knows_faults(model) else 0
    return Preparation(
        focus_patterns=_FOCUS_PATTERNS if settings.probe_autofocus and rounds > 0 else 0,
        judged=True,
        probe_rounds=rounds,
        new_probe_rounds=max(rounds, ROUNDS_OF_A_NEW_PROBE) if settings.probe_rounds is None and rounds else rounds,
        background_counts=settings.background_counts,
        positions=settings.position_refinement if rounds > 0 else "none",
        orientation=settings.orientation_search if rounds > 0 else "never",
        probe_search=settings.probe_search if rounds > 0 else "never",
        modes=settings.probe_modes if rounds > 0 else None,
        flux=settings.flux_search if rounds > 0 else "never",
        blur=settings.blur_search if rounds > 0 else "never",
    )


@attrs.frozen(kw_only=True, eq=False)
class _Ended:
    """A pass that is over.

    Attributes:
        prepared: the pass, under the probe of the end.
        object: (pixels,) complex64.
        metrics: of the finish; none where none was made.
        first: the pass under its own probe and its object, where a finish changed them.
        error_bars: of the object, where they were asked for.
        law_known: whether the law by which the network errs is its own; True where no finish needed one.
    """

    prepared: Prepared
    object: Tensor
    metrics: dict[str, float] = attrs.field(factory=dict)
    first: tuple[WholeScan, Tensor] | None = None
    error_bars: ErrorBars | None = None
    law_known: bool = True


def _finished(prepared: Prepared, object_: Tensor, settings: TorchInferenceConfig, law: PriorLaw | None) -> _Ended:
    """Take an object (pixels,) further, and what was refined or found before with it; say by how much."""
    run, steps = prepared.run, settings.finish
    if steps == "none":
        return _Ended(prepared=prepared, object=object_)
    wish = Wish(
        steps=steps,
        refine_probe=prepared.probe_refined,
        error_bars=settings.error_bars,
        check_error_bars=settings.error_bars_check,
        # A probe that is free follows the noise of dark pixels, and would take the background's light for its own.
        refine_background=prepared.background_fitted and not prepared.probe_refined,
        stray=stray_of(prepared),
        law=law or shipped_prior_law(),
    )
    with stage("finish", patterns=len(run.indices)) as course:
        found = finish(run.measured(), object_, run.probe, wish)
        course.count(steps=found.steps)
    spreads = {} if found.check is None else {"phase": found.check.phase, "amplitude": found.check.amplitude}
    figures = {"finish_steps": float(found.steps), "finish_gain": found.gain, "finish_refused": found.refused}
    scan = run.scan if found.moves_px is None else run.scan.nudged(run.indices, found.moves_px)
    changed = attrs.evolve(run, probe=found.probe, scan=scan, background=found.background)
    return _Ended(
        prepared=attrs.evolve(prepared, run=changed),
        object=found.object,
        metrics={name: value for name, value in figures.items() if value is not None}
        | {f"halves_apart_{name}_in_bars": value for name, value in spreads.items()},
        first=(run, object_) if found.steps else None,
        error_bars=found.error_bars,
        law_known=law is not None,
    )


def _outward(ended: _Ended, taken: CandidateProbe, scan: Scan, light: Tensor) -> Reconstruction:
    """Put a result into the scale of the scan's own probe and into the frame of the stored patterns."""
    prepared, run = ended.prepared, ended.prepared.run
    object_, coverage = where_lit(ended.object, light)
    with Bar("judgement", of=run.n_batches, stays=False) as bar:
        judgement, scale = run.judge(object_, bar=bar), outward_scale(run, scan)
    before, figures = _before_the_finish(ended, scan, light)
    shape, (origin_y, origin_x) = (run.canvas.height, run.canvas.width), run.origin.tolist()
    probe = run.probe * beam_slope(run.scan.beam_px, run.scan.size).to(run.probe.device) / scale
    chosen = run.indices.cpu().numpy()
    bars = None if ended.error_bars is None else _uncertainty(ended.error_bars, coverage.reshape(shape), scale)
    said = {} if bars is None else _said_of(bars)
    found = findings_of(prepared, {**judgement.metrics, **ended.metrics}, law_known=ended.law_known)
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
        relative_flux=_relative_flux(run),
        beam_px=run.scan.beam_px,
        pattern_indices=chosen,
        scale=scale,
        metrics={**judgement.metrics, **ended.metrics, **figures, **said},
        uncertainty=bars,
        before_finish=before,
        probe_refined=prepared.probe_refined,
        probe_stays=prepared.probe_stays,
        r_factors=judgement.r_factors,
        findings=(*screened_findings(scan), *found),
    )


def _said_of(bars: Uncertainty) -> dict[str, float]:
    said = {"median_phase_std_rad": bars.median_phase_std_rad}
    if bars.by_frequency is not None:
        said["counts_decide_phase_up_to_per_px"] = bars.by_frequency.half_phase_per_px
    return said


def _uncertainty(bars: ErrorBars, coverage: Tensor, scale: float) -> Uncertainty:
    """Put error bars into the scale of a result; nothing is known where nothing was measured."""

    def shown(values: Tensor, unknown: float) -> NDArray[np.float32]:
        by_pixel = values.reshape(coverage.shape)
        return torch.where(coverage > 0, by_pixel, torch.full_like(by_pixel, unknown)).cpu().numpy().astype(np.float32)

    return Uncertainty(
        phase_std_rad=shown(bars.phase, np.inf),
        amplitude_std=shown(bars.amplitude * scale, np.inf),
        prior_share=shown(bars.prior_share, 1.0),
        by_frequency=bars.by_frequency,
    )


def _before_the_finish(
    ended: _Ended, scan: Scan, light: Tensor
) -> tuple[NDArray[np.complex64] | None, dict[str, float]]:
    """Give the object that a finish set out from, outward, and what it was like; nothing where none changed it."""
    if ended.first is None:
        return None, {}
    run, first = ended.first
    object_, _ = where_lit(first, light)
    outward = (object_ * outward_scale(run, scan)).reshape(run.canvas.height, run.canvas.width)
    return outward.cpu().numpy(), {f"pass_{name}": value for name, value in run.judge(object_).metrics.items()}


def _relative_flux(run: WholeScan) -> NDArray[np.float64] | None:
    flux = run.scan.relative_flux
    return None if flux is None else flux[run.indices].double().cpu().numpy()


def _moved(prepared: Prepared) -> bool:
    return prepared.moved_px > 0.0 or prepared.orientation is not None


def outward_scale(run: WholeScan, scan: Scan) -> float:
    """Give the factor that turns the network's object into the one that belongs to the scan's own probe."""
    inside = float(light_of(run.probe).sum(dtype=torch.float64))
    own = float(np.square(np.abs(scan.probe.astype(np.complex128))).sum())
    return float(np.sqrt(inside / own))
