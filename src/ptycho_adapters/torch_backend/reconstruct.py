"""A trained model on a scan: each step of the generator passes every pattern once and stitches as it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.canvas import accumulate, extract
from ptycho_adapters.torch_backend.execution import check_hardware, cpu_threads, network_precision, pick_device
from ptycho_adapters.torch_backend.generators import Generator, Step
from ptycho_adapters.torch_backend.module import visible_amplitude
from ptycho_adapters.torch_backend.optics import expected_counts, poisson_deviance
from ptycho_adapters.torch_backend.resident import Canvas, ResidentScan
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.reconstruction import Reconstruction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ptycho_adapters.torch_backend.trained_model import TrainedModel
    from ptycho_core.scan import Scan

ProbeSource = Literal["model", "scan"]

_BATCH_ON_CPU = 16
_BATCH_ON_GPU = 256
_JUDGED_PATTERNS = 64
_COVERED = 1e-3  # of the largest coverage: below it, a pixel has seen no light worth a value
_BACKGROUND = 1e-2


@attrs.frozen(kw_only=True, eq=False)
class _Run:
    """One reconstruction: network, data, probe and canvas on a device."""

    generator: Generator
    scan: ResidentScan
    probe: Tensor
    canvas: Canvas
    origin: Tensor
    indices: Tensor
    batch_size: int
    precision: str
    uniform: bool

    def batches(self) -> Iterator[Tensor]:
        """Scan indices, a batch at a time."""
        yield from self.indices.split(self.batch_size)


def reconstruct(
    model: TrainedModel,
    scan: Scan,
    *,
    execution_config: PyTorchExecutionConfig | None = None,
    inference_config: TorchInferenceConfig | None = None,
) -> Reconstruction:
    """Reconstruct a scan with a trained model.

    Args:
        model: network and refined probe.
        scan: patterns of the size that the model was trained on.
        execution_config: device, precision, batch size; defaults apply when it is None.
        inference_config: probe source, weighting and which patterns to use; defaults apply when it is None.

    Returns:
        The object on a canvas that covers every patch.

    Raises:
        ScanError: the scan's patterns are not of the model's size.
        DependencyError: the device is not available.
    """
    execution = execution_config or PyTorchExecutionConfig()
    settings = inference_config or TorchInferenceConfig()
    _check(model, scan)
    check_hardware(execution)
    started = time.perf_counter()
    device = pick_device(execution.accelerator)
    generator = model.generator.to(device).eval()
    resident = ResidentScan(scan).to(device)
    chosen = chosen_patterns(scan, settings)
    with torch.inference_mode(), cpu_threads(execution.num_threads):
        probes = candidate_probes(model, scan, resident.flux)
        make_run = _RunFactory(generator, resident, chosen, execution, settings)
        source = _choose(settings.probe_source, probes, make_run)
        run = make_run(probes[source], chosen)
        prepared = time.perf_counter()
        object_, coverage = _stitched(run)
        stitched = time.perf_counter()
        scale = _outward_scale(probes[source], scan)
        lit = coverage > _COVERED * coverage.max()
        outward = torch.where(lit, object_ * scale, torch.ones_like(object_))
        metrics = _judge(run, outward / scale)
        finished = time.perf_counter()
    model.generator.to("cpu")
    shape, (origin_y, origin_x) = (run.canvas.height, run.canvas.width), run.origin.tolist()
    return Reconstruction(
        object=outward.reshape(shape).cpu().numpy(),
        coverage=torch.where(lit, coverage, torch.zeros_like(coverage)).reshape(shape).cpu().numpy(),
        origin_px=(origin_y, origin_x),
        probe=(probes[source] / scale).astype(np.complex64),
        probe_source=source,
        positions_px=scan.positions_px[chosen],
        pattern_indices=chosen,
        scale=scale,
        metrics=metrics,
        seconds={
            "prepare": prepared - started,
            "network and stitching": stitched - prepared,
            "judge": finished - stitched,
        },
    )


def chosen_patterns(scan: Scan, settings: TorchInferenceConfig) -> NDArray[np.int64]:
    """Scan indices that take part, sorted: all, unless a subsample or a number of groups asks for fewer."""
    wanted = min(scan.n_patterns, settings.n_subsample or scan.n_patterns, settings.n_groups or scan.n_patterns)
    if wanted == scan.n_patterns:
        return np.arange(scan.n_patterns)
    chosen: NDArray[np.int64] = np.random.default_rng(settings.seed).permutation(scan.n_patterns)[:wanted]
    return np.sort(chosen)


def candidate_probes(model: TrainedModel, scan: Scan, flux: float) -> dict[ProbeSource, NDArray[np.complex64]]:
    """Both probes at the scan's flux: the refined one of the model and the scan's own."""
    own = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    return {
        "model": (model.probe * np.sqrt(flux / model.flux)).astype(np.complex64),
        "scan": (scan.probe * np.sqrt(flux / own)).astype(np.complex64),
    }


class _RunFactory:
    """Builds runs that differ only in probe and patterns."""

    def __init__(
        self,
        generator: Generator,
        scan: ResidentScan,
        chosen: NDArray[np.int64],
        execution: PyTorchExecutionConfig,
        settings: TorchInferenceConfig,
    ) -> None:
        self._generator = generator
        self._scan = scan
        self.chosen = chosen
        self._precision = execution.precision
        self._device = scan.counts.device
        default = _BATCH_ON_CPU if self._device.type == "cpu" else _BATCH_ON_GPU
        self._batch_size = execution.inference_batch_size or settings.batch_size or default
        self._uniform = settings.patch_weighting == "uniform"

    def __call__(self, probe: NDArray[np.complex64], indices: NDArray[np.int64]) -> _Run:
        starts = self._scan.starts_on_host()[indices]
        height, width = np.ptp(starts, axis=0) + self._scan.size
        return _Run(
            generator=self._generator,
            scan=self._scan,
            probe=torch.tensor(probe, device=self._device),
            canvas=Canvas(height=int(height), width=int(width)),
            origin=torch.tensor(starts.min(axis=0), device=self._device),
            indices=torch.tensor(indices, device=self._device),
            batch_size=self._batch_size,
            precision=self._precision,
            uniform=self._uniform,
        )


def _check(model: TrainedModel, scan: Scan) -> None:
    size = model.payload.pt_data_config.N
    problems = []
    if size != scan.N:
        problems.append(
            Problem(path="scan.patterns", expected=f"{size} px, as the model was trained", found=f"{scan.N} px")
        )
    raise_if_any(ScanError, "reconstruction", problems)


def _choose(
    wanted: Literal["auto", "model", "scan"], probes: dict[ProbeSource, NDArray[np.complex64]], make_run: _RunFactory
) -> ProbeSource:
    """Take the probe that was asked for, or the one under which some of the patterns are explained better."""
    if wanted != "auto":
        return wanted
    few = make_run.chosen[:_JUDGED_PATTERNS]
    deviance: dict[ProbeSource, float] = {}
    for source, probe in probes.items():
        run = make_run(probe, few)
        deviance[source] = _judge(run, _stitched(run)[0])["deviance_per_px"]
    return min(deviance, key=lambda source: deviance[source])


def _stitched(run: _Run) -> tuple[Tensor, Tensor]:
    """Run the generator's steps, each on every pattern once, and average the whole scan's overlaps after each.

    Returns:
        The object and the summed probe intensity on it, both flat (pixels,).
    """
    object_ = torch.ones(1, run.canvas.pixels, dtype=torch.complex64, device=run.probe.device)
    coverage = object_.real
    for step in run.generator.steps():
        object_, coverage = _averaged(run, step, object_)
    return object_[0], coverage[0]


def _averaged(run: _Run, step: Step, object_: Tensor) -> tuple[Tensor, Tensor]:
    """One step on every pattern; overlapping patches are averaged, weighted by the light on them or evenly."""
    pixels, device = run.canvas.pixels, run.probe.device
    total = torch.zeros(1, pixels, dtype=torch.complex64, device=device)
    weights = torch.zeros(1, pixels, device=device)
    coverage = torch.zeros(1, pixels, device=device)
    for batch in run.batches():
        group = run.scan.gather(batch[None])
        probes = group.probes(run.probe)
        amplitude = visible_amplitude(group.counts, probes, run.scan.good_pixels)
        where = run.canvas.indices(group.starts, run.origin, run.scan.size)
        with network_precision(run.precision, device):
            patches = step(amplitude, probes, extract(object_, where, run.scan.size))
        light = (probes.real.square() + probes.imag.square()).sum(dim=2)
        brightest = light.amax(dim=(-2, -1), keepdim=True)
        weight = (light > _COVERED * brightest).to(light.dtype) if run.uniform else light
        total += accumulate(weight * patches, where, pixels)
        weights += accumulate(weight, where, pixels)
        coverage += accumulate(light, where, pixels)
    mean = total / weights.clamp_min(torch.finfo(weights.dtype).tiny)
    return torch.where(weights > 0, mean, torch.ones_like(mean)), coverage


def _judge(run: _Run, object_: Tensor) -> dict[str, float]:
    """Compare the counts that the object implies with the measured ones, without a truth."""
    deviance, difference, measured = [], [], []
    for batch in run.batches():
        group = run.scan.gather(batch[None])
        where = run.canvas.indices(group.starts, run.origin, run.scan.size)
        patches = extract(object_[None], where, run.scan.size)
        expected = expected_counts(patches, group.probes(run.probe), _BACKGROUND)
        good = run.scan.good_pixels
        deviance.append(poisson_deviance(expected, group.counts, good) * len(batch))
        amplitude = group.counts.sqrt()
        gap = (expected.sqrt() - amplitude).abs()
        difference.append((gap if good is None else gap * good).sum())
        measured.append(amplitude.sum())
    return {
        "deviance_per_px": float(torch.stack(deviance).sum() / len(run.indices)),
        "r_factor": float(torch.stack(difference).sum() / torch.stack(measured).sum()),
    }


def _outward_scale(probe: NDArray[np.complex64], scan: Scan) -> float:
    """Factor that turns the network's object into the one that belongs to the scan's own probe."""
    inside = float(np.square(np.abs(probe)).sum(dtype=np.float64))
    own = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    return float(np.sqrt(inside / own))
