"""Training speed and memory: `python benchmarks/training.py [--help]`.

The time of a short run is taken off that of a longer one, so that start-up does not count; Lightning's own cost per
step does. Beside the figures stand the machine's own rates, measured in the same process, and the share of its
convolution rate that the training reaches, taking a step for three passes of the network forward: over the whole step,
and over the networks alone, forward and backward on the step's canvases.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from charts import Panel, draw
from harness import Figures, in_fresh_process, peak_memory_mb, write
from inference import convolution_rate
from machine import rates, synchronise

from ptycho_core.config.execution import Precision

if TYPE_CHECKING:
    from networks import Call

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan


@attrs.frozen(kw_only=True)
class Case:
    """What is measured.

    Attributes:
        size: side of a pattern in pixels.
        threads: CPU threads.
        device: `cpu` or `cuda`.
        precision: number format of the network.
        architecture: generator.
        gridsize: a group is gridsize² patterns.
        batch_size: groups per step.
        steps: per epoch.
    """

    size: int
    threads: int
    device: str
    precision: Precision
    architecture: str
    gridsize: int
    batch_size: int
    steps: int

    @property
    def settings(self) -> Figures:
        """Settings of a training."""
        return {
            "architecture": self.architecture,
            "gridsize": self.gridsize,
            "precision": self.precision,
            "batch_size": self.batch_size,
            "n_groups": self.steps * self.batch_size,
            "enable_oversampling": self.gridsize > 1,
            "accelerator": "cuda" if self.device == "cuda" else "cpu",
            "validation_fraction": 0.0,
            "neighbor_count": 12,
            # What comes before the first step does not count, and is left out.
            "probe_rounds": 0,
            "probe_autofocus": False,
            "position_refinement": "none",
        }


def measure(*, case: Case) -> Figures:
    """Train twice on a simulated scan and compare the times."""
    import torch  # noqa: PLC0415 - in the fresh process only
    from networks import FORWARD_PASSES_PER_STEP  # noqa: PLC0415

    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    torch.set_num_threads(case.threads)
    scan = simulate(SimulationConfig(N=case.size, object_size_px=2 * case.size, step_px=case.size / 16, photons=1e6))
    _seconds(scan, case, epochs=1)
    short, long = _seconds(scan, case, epochs=1), _seconds(scan, case, epochs=4)
    memory = peak_memory_mb()
    per_step = (long - short) / (3 * case.steps)
    patterns = case.batch_size * case.gridsize**2
    calls = _network_calls(scan, case)
    operations = sum(call.operations() for call in calls)
    network_s = sum(call.training_seconds(case.precision) for call in calls)
    formats = ("bf16" if case.precision == "bf16-mixed" else "float32",)
    best = rates(device=case.device, threads=case.threads, fft_px=case.size, formats=formats)
    share = 1e-9 * FORWARD_PASSES_PER_STEP * operations / convolution_rate(best, case.precision)
    return {
        "size_px": case.size,
        "precision": case.precision,
        "architecture": case.architecture,
        "gridsize": case.gridsize,
        "batch_size": case.batch_size,
        "patterns_per_step": patterns,
        "gflop_per_pattern_forward": 1e-9 * operations / patterns,
        "steps_per_s": 1 / per_step,
        "patterns_per_s": patterns / per_step,
        "share_of_convolution_rate": share / per_step,
        "share_of_convolution_rate_in_the_network": share / network_s,
        "peak_memory_mb": memory,
        "peak_device_memory_mb": torch.cuda.max_memory_allocated() / 1e6 if case.device == "cuda" else None,
        "machine": best,
    }


def _payload(scan: Scan, case: Case, folder: Path, *, epochs: int) -> TrainingPayload:
    from ptycho_core.config import PyTorchExecutionConfig  # noqa: PLC0415
    from ptycho_core.config.payload import ScanFacts, resolve_training  # noqa: PLC0415

    execution = PyTorchExecutionConfig(enable_progress_bar=False, enable_checkpointing=False, logger_backend=None)
    facts = ScanFacts(path=Path("simulated.npz"), N=scan.N, n_patterns=scan.n_patterns)
    return resolve_training(facts, {**case.settings, "epochs": epochs}, execution, output_dir=folder)


def _seconds(scan: Scan, case: Case, *, epochs: int) -> float:
    from ptycho_adapters.torch_backend import train  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        payload = _payload(scan, case, Path(folder), epochs=epochs)
        started = time.perf_counter()
        train(payload, scan)
        synchronise(case.device)
        return time.perf_counter() - started


def _network_calls(scan: Scan, case: Case) -> list[Call]:
    """Watch the networks during the prediction of one batch."""
    import torch  # noqa: PLC0415
    from networks import watched  # noqa: PLC0415

    from ptycho_adapters.common.groups import training_set  # noqa: PLC0415
    from ptycho_adapters.torch_backend.training.trainer import build_module  # noqa: PLC0415

    payload = _payload(scan, case, Path("unused"), epochs=1)
    data = training_set(payload, [scan])
    module = build_module(payload, data).to(case.device)
    indices = torch.tensor(data.groups[0].train[: case.batch_size].astype("int64"), device=case.device)
    with torch.no_grad(), watched(module.generator, case.device) as calls:
        module.predict_groups(indices, module.arms.training[0])
    return calls


def main() -> None:
    """Measure every case in a process of its own and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], choices=[64, 128, 256], help="px")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", default=["32-true"], choices=["32-true", "bf16-mixed"])
    parser.add_argument("--architecture", default="unrolled")
    parser.add_argument("--gridsizes", type=int, nargs="+", default=[3], help="a group is gridsize² patterns")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1], help="groups per step")
    parser.add_argument("--steps", type=int, default=30, help="steps per epoch")
    asked = vars(parser.parse_args())
    names = ("sizes", "precisions", "gridsizes", "batch_sizes")
    sizes, precisions, gridsizes, batches = (asked.pop(name) for name in names)
    cases = [
        in_fresh_process(
            measure, {"case": Case(**asked, size=size, precision=precision, gridsize=grid, batch_size=batch)}
        )
        for size, precision, grid, batch in itertools.product(sizes, precisions, gridsizes, batches)
    ]
    write("training", cases)
    panels = [
        Panel(
            title=f"training, {size} px, {cases[0]['machine']['device']}",
            x="patterns per step",
            y="patterns/s",
            x_scale="log",
            y_scale="log",
            lines={
                f"gridsize {grid}, {precision}": (
                    [c["patterns_per_step"] for c in some],
                    [c["patterns_per_s"] for c in some],
                )
                for grid, precision in itertools.product(gridsizes, precisions)
                for some in (
                    [c for c in cases if (c["size_px"], c["gridsize"], c["precision"]) == (size, grid, precision)],
                )
            },
        )
        for size in sizes
    ]
    draw("training", panels)


if __name__ == "__main__":
    main()
