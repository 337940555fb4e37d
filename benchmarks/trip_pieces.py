"""What a trip to a GPU measures, in pieces that each are done in minutes; `gpu_trip.py` runs them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from harness import Figures, machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.measurement.scan import Scan

_ROOT = Path(__file__).parents[1]
_SWITCHES = ("as it is", "bf16", "compiled", "compiled with CUDA graphs")
_SOLVER_EPOCHS = 44


@attrs.frozen(kw_only=True)
class Trip:
    """Where to and how far.

    Attributes:
        device: `cuda` or `cpu`.
        quick: the rehearsal: small, and of every kind one.
        out: folder of the results.
        scan: a measured scan to reconstruct, if any.
        reference: object that it is judged by.
        pretraining_steps: of the pretraining.
    """

    device: str
    quick: bool
    out: Path
    scan: Path | None = None
    reference: Path | None = None
    pretraining_steps: int = 26000

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of patterns in px."""
        return (64,) if self.quick else (64, 128, 256)

    @property
    def batches(self) -> tuple[int, ...]:
        """Patterns at a time."""
        return (8,) if self.quick else (16, 64, 256, 1024)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Number formats of the network."""
        return ("32-true",) if self.quick else ("32-true", "bf16-mixed")


Piece = "Callable[[Trip, float], Figures]"


def pieces(trip: Trip) -> dict[str, dict[str, Mapping[str, object]]]:
    """Name the pieces of every step, each with the arguments of its function."""
    tests = (
        ["tests/torch_backend/test_optics.py"]
        if trip.quick
        else sorted(
            str(path.relative_to(_ROOT))
            for folder in ("tests/torch_backend", "property_tests")
            for path in (_ROOT / folder).glob("test_*.py")
            if folder == "tests/torch_backend" or "torch" in path.stem
        )
    )
    sizes, precisions = trip.sizes, trip.precisions
    return {
        "environment": {"machine": {}},
        "rates": {f"{size} px": {"size": size} for size in sizes},
        "tests": {Path(name).stem: {"name": name} for name in tests},
        "reconstruction": {
            f"{size} px, {batch} at a time, {precision}": {"size": size, "batch": batch, "precision": precision}
            for size in sizes
            for batch in trip.batches
            for precision in precisions
        },
        "training": {
            f"{size} px, {groups} groups, {precision}": {"size": size, "groups": groups, "precision": precision}
            for size in sizes
            for groups in ((1,) if trip.quick else (1, 8, 32))
            for precision in precisions
        },
        "switches": {f"{size} px, {name}": {"size": size, "switch": name} for size in sizes for name in _SWITCHES},
        "bandwidth": {f"{size} px": {"size": size} for size in sizes},
        "quality": {f"{name}, {who}": {"name": name, "device": who} for name in _scans(trip) for who in _devices(trip)},
        "solver": {name: {"name": name} for name in _scans(trip)},
        "pretraining": {"weights": {}},
    }


def _devices(trip: Trip) -> tuple[str, ...]:
    return tuple(dict.fromkeys((trip.device, "cpu")))


def _scans(trip: Trip) -> tuple[str, ...]:
    simulated = ("simulated 64 px",) if trip.quick else ("simulated 64 px", "simulated 128 px")
    return simulated if trip.scan is None else (*simulated, "measured")


def environment(trip: Trip, limit_s: float) -> Figures:
    """Describe the machine, torch and the device."""
    import torch  # noqa: PLC0415 - each piece has a process of its own

    del limit_s
    there = trip.device == "cuda"
    return machine() | {
        "torch_cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if there else "cpu",
        "device_memory_gb": torch.cuda.get_device_properties(0).total_memory / 1e9 if there else None,
    }


def rates(trip: Trip, limit_s: float, *, size: int) -> Figures:
    """Measure what the device can do."""
    from machine import rates as measured  # noqa: PLC0415

    del limit_s
    formats = ("float32",) if trip.quick else ("float32", "bf16")
    return measured(device=trip.device, threads=1, fft_px=size, formats=formats)


def tests(trip: Trip, limit_s: float, *, name: str) -> Figures:
    """Run a file of tests; those that want a GPU find it."""
    del trip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", name]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "summary": lines[-1] if lines else done.stderr[-400:], "failed": failed}


def reconstruction(trip: Trip, limit_s: float, *, size: int, batch: int, precision: str) -> Figures:
    """Measure patterns per second: network, stitching, whole call; and peak memory."""
    from inference import Case, measure  # noqa: PLC0415

    del limit_s
    case = Case(
        size=size,
        threads=1,
        device=trip.device,
        precision=precision,
        architecture="unrolled",
        archive=None,
        batch_size=batch,
        repeats=1 if trip.quick else 3,
        object_factor=1.3 if trip.quick else 6.0,
    )
    return measure(case=case)


def training(trip: Trip, limit_s: float, *, size: int, groups: int, precision: str) -> Figures:
    """Measure training steps per second and peak memory."""
    from training import Case, measure  # noqa: PLC0415

    del limit_s
    case = Case(
        size=size,
        threads=1,
        device=trip.device,
        precision=precision,
        architecture="unrolled",
        gridsize=2 if trip.quick else 3,
        batch_size=groups,
        steps=2 if trip.quick else 30,
    )
    return measure(case=case)


def switches(trip: Trip, limit_s: float, *, size: int, switch: str) -> Figures:
    """Time a pass whose network is switched to something that is not the default, and compare its object."""
    from machine import least_seconds, synchronise  # noqa: PLC0415

    del limit_s
    run, model = _pass(trip, size, "bf16-mixed" if switch == "bf16" else "32-true")
    if switch == _SWITCHES[3] and trip.device != "cuda":
        return {"skipped": "CUDA graphs want a GPU"}
    if switch == "compiled" and trip.quick:
        return {"skipped": "compiling takes minutes of a processor"}
    plain = run.stitch()[0].clone()
    started = time.perf_counter()
    if switch.startswith("compiled"):
        _compile(model, graphs=switch == _SWITCHES[3])
    made = run.stitch()[0].clone()
    synchronise(trip.device)
    first_s = time.perf_counter() - started
    seconds = least_seconds(run.stitch, trip.device)
    return {
        "patterns": len(run.indices),
        "first_call_s": first_s,
        "seconds": seconds,
        "patterns_per_s": len(run.indices) / seconds,
        "largest_change_of_object": float((made - plain).abs().max()),
    }


def bandwidth(trip: Trip, limit_s: float, *, size: int) -> Figures:
    """Set the bytes that the operations of a pass move beside what the memory can move."""
    from machine import least_seconds  # noqa: PLC0415
    from machine import rates as measured  # noqa: PLC0415
    from traffic import Traffic  # noqa: PLC0415

    del limit_s
    run, _ = _pass(trip, size, "32-true")
    with Traffic() as traffic:
        run.stitch()
    seconds = least_seconds(run.stitch, trip.device)
    copied = float(measured(device=trip.device, threads=1, fft_px=size, formats=())["copy_gb_per_s"])
    moved = 1e-9 * traffic.bytes / seconds
    return {
        "patterns": len(run.indices),
        "seconds": seconds,
        "operations": traffic.operations,
        "gigabytes": 1e-9 * traffic.bytes,
        "gb_per_s": moved,
        "copy_gb_per_s": copied,
        "share_of_bandwidth": moved / copied,
    }


def quality(trip: Trip, limit_s: float, *, name: str, device: str) -> Figures:
    """Reconstruct with the shipped weights, zero-shot and with a finish; judged alike on every device."""
    from quality import reference_judge, truth_judge  # noqa: PLC0415

    from ptycho_adapters.run import framework  # noqa: PLC0415
    from ptycho_adapters.torch_backend import reconstruct  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415

    del limit_s
    scan = _scan(trip, name)
    measured = name == "measured" and trip.reference is not None
    judge = reference_judge(scan, trip.reference, margin_px=8, region_px=None) if measured else truth_judge(scan)
    model = framework("pytorch").generalist_for(scan)
    execution = PyTorchExecutionConfig(accelerator=device, enable_progress_bar=False)
    rounds = 1 if trip.quick else None
    found: Figures = {"device": device}
    for word, finish in (("zero_shot", "none"), ("finished", "auto")):
        settings = TorchInferenceConfig(probe_rounds=rounds, finish=finish)
        started = time.perf_counter()
        result = reconstruct(model, scan, execution_config=execution, inference_config=settings)
        scores = judge.scores(result.object, result.origin_px)
        found[word] = {
            "seconds": time.perf_counter() - started,
            "r_factor": result.metrics["r_factor"],
            "deviance_per_px": result.metrics["deviance_per_px"],
            **scores,
        }
    return found


def solver(trip: Trip, limit_s: float, *, name: str) -> Figures:
    """Run LSQ-ML by pty-chi on the same scan, where it is installed; our adapter keeps it on the processor."""
    import lsqml  # noqa: PLC0415
    from quality import truth_judge  # noqa: PLC0415

    from ptycho_adapters.ptychi.engines import RefineSettings  # noqa: PLC0415

    del limit_s
    try:
        lsqml.require_solver()
    except SystemExit as missing:
        return {"skipped": str(missing)}
    scan = _scan(trip, name)
    *_, last = lsqml.solve(scan, RefineSettings(), 2 if trip.quick else _SOLVER_EPOCHS)
    known = scan.object is not None
    scores = truth_judge(scan).scores(last.object, last.origin_px) if known else {}
    return {"device": "cpu", "epochs": last.number, "seconds": last.seconds, **scores}


def pretraining(trip: Trip, limit_s: float) -> Figures:
    """Go on with a pretraining, from where its checkpoint stands, for as long as there is time."""
    target = trip.out / "pretrained.safetensors"
    saved = target.with_suffix(".checkpoint.safetensors")
    steps = 2 if trip.quick else trip.pretraining_steps
    command = [sys.executable, "-m", "ptycho_adapters.pretraining", "--output", str(target), "--device", trip.device]
    command += ["--max-seconds", f"{max(10.0, limit_s - 60.0):.0f}"]
    if saved.is_file():
        command += ["--resume", str(saved)]
    else:
        quick = ["--report-every", "1", "--validation-groups", "1", "--warm-up-steps", "1", "--precision", "32-true"]
        command += ["--steps", str(steps), *(quick if trip.quick else ["--batch-size", "8"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-800:])
    lines = target.with_suffix(".jsonl").read_text().splitlines() if target.is_file() else []
    return {"finished": "go on with --resume" not in done.stderr, "steps": steps, "last_report": lines[-1:]}


def _scan(trip: Trip, name: str) -> Scan:
    from ptycho_adapters.files import read_scan  # noqa: PLC0415
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    if name == "measured" and trip.scan is not None:
        return read_scan(trip.scan)
    size = int(name.split()[1])
    return simulate(
        SimulationConfig(N=size, object_size_px=2 * size, step_px=size / (4 if trip.quick else 12), photons=1e6)
    )


def _pass(trip: Trip, size: int, precision: str) -> tuple[object, TrainedModel]:
    """Make a pass with the shipped weights over a simulated scan."""
    from ptycho_adapters.run import framework  # noqa: PLC0415
    from ptycho_adapters.torch_backend.data.resident import ResidentScan  # noqa: PLC0415
    from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    side = int((1.3 if trip.quick else 4.0) * size)
    scan = simulate(SimulationConfig(N=size, object_size_px=side, step_px=size / 16, photons=1e6))
    model = framework("pytorch").generalist_for(scan)
    chosen = np.arange(scan.n_patterns)
    resident = ResidentScan(scan).to(trip.device)
    model.generator.to(trip.device).eval()
    execution = PyTorchExecutionConfig(precision=precision)
    make_pass = PassFactory(model.generator, resident, chosen, execution, TorchInferenceConfig())
    return _Inferring(make_pass(scan.probe, chosen)), model


class _Inferring:
    """A pass without gradients."""

    def __init__(self, run: object) -> None:
        self._run, self.indices = run, run.indices

    def stitch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the steps."""
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            return self._run.stitch()


def _compile(model: TrainedModel, *, graphs: bool) -> None:
    """Compile the networks in place."""
    from ptycho_adapters.torch_backend.generators.canvas_unet import CanvasUNet  # noqa: PLC0415

    for module in model.generator.modules():
        if isinstance(module, CanvasUNet):
            module.compile(mode="reduce-overhead" if graphs else None)


STEPS = {
    each.__name__: each
    for each in (
        environment,
        rates,
        tests,
        reconstruction,
        training,
        switches,
        bandwidth,
        quality,
        solver,
        pretraining,
    )
}
"""What a step does with each of its pieces."""
