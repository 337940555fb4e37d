"""Reconstruction speed and memory: `python benchmarks/inference.py [--help]`.

Three figures: the network alone, network and stitching, and the whole call (probe, figures of merit and transfers
included). Beside them stand the machine's own rates, measured in the same process, and the share of its convolution
rate that the network reaches with the operations it was counted to need, stitching included. Weights are those of
`--archive`, or untrained; they do not matter to the time.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from charts import Panel, draw
from harness import Figures, in_fresh_process, peak_memory_mb, write
from machine import rates

from ptycho_core.config.execution import Precision

if TYPE_CHECKING:
    from networks import Call

    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.measurement.scan import Scan


@attrs.frozen(kw_only=True)
class Case:
    """What is measured.

    Attributes:
        size: side of a pattern in pixels.
        threads: CPU threads.
        device: `cpu` or `cuda`.
        precision: number format of the network.
        architecture: generator, without an archive.
        archive: a trained model, or None.
        batch_size: patterns per pass of the network.
        repeats: of which the fastest counts, after one that does not.
        object_factor: side of the object over that of a pattern.
    """

    size: int
    threads: int
    device: str
    precision: Precision
    architecture: str
    archive: Path | None
    batch_size: int
    repeats: int
    object_factor: float


def measure(*, case: Case) -> Figures:
    """Reconstruct a simulated scan several times and take the fastest of each figure."""
    import torch  # noqa: PLC0415 - in the fresh process only

    from ptycho_adapters.torch_backend import load_archive, reconstruct  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    torch.set_num_threads(case.threads)
    side = int(case.object_factor * case.size)
    scan = simulate(SimulationConfig(N=case.size, object_size_px=side, step_px=case.size / 16, photons=1e6))
    model = _untrained(scan, case.architecture) if case.archive is None else load_archive(case.archive)
    execution = PyTorchExecutionConfig(
        accelerator="cuda" if case.device == "cuda" else "cpu",
        precision=case.precision,
        inference_batch_size=case.batch_size,
    )
    settings = TorchInferenceConfig(probe_source="model", probe_rounds=0)
    whole, stitched = [], []
    for _ in range(case.repeats + 1):
        started = time.perf_counter()
        result = reconstruct(model, scan, execution_config=execution, inference_config=settings)
        whole.append(time.perf_counter() - started)
        stitched.append(result.seconds["network and stitching"])
    memory = peak_memory_mb()
    calls = [_network_calls(model, scan, execution) for _ in range(case.repeats)]
    network_s = min(sum(call.seconds for call in one) for one in calls)
    operations = sum(call.operations() for call in calls[0])
    formats = ("bf16" if case.precision == "bf16-mixed" else "float32",)
    best = rates(device=case.device, threads=case.threads, fft_px=case.size, formats=formats)
    rate = 1e-9 * operations / convolution_rate(best, case.precision)
    return {
        "size_px": case.size,
        "patterns": scan.n_patterns,
        "precision": case.precision,
        "architecture": model.payload.pt_model_config.architecture,
        "batch_size": case.batch_size,
        "gflop_per_pattern": 1e-9 * operations / scan.n_patterns,
        "network_patterns_per_s": scan.n_patterns / network_s,
        "network_and_stitching_patterns_per_s": scan.n_patterns / min(stitched[1:]),
        "end_to_end_patterns_per_s": scan.n_patterns / min(whole[1:]),
        "share_of_convolution_rate": rate / min(stitched[1:]),
        "share_of_convolution_rate_in_the_network": rate / network_s,
        "first_call_s": whole[0],
        "peak_memory_mb": memory,
        "peak_device_memory_mb": torch.cuda.max_memory_allocated() / 1e6 if case.device == "cuda" else None,
        "machine": best,
    }


def convolution_rate(best: Figures, precision: str) -> float:
    """Return the machine's convolution rate in the number format of the network [GFLOP/s]."""
    return float(
        best["convolution_bf16_gflop_per_s" if precision == "bf16-mixed" else "convolution_float32_gflop_per_s"]
    )


def _untrained(scan: Scan, architecture: str) -> TrainedModel:
    from ptycho_adapters.torch_backend import ScanProbe, TrainedModel  # noqa: PLC0415
    from ptycho_adapters.torch_backend.generators import build_generator  # noqa: PLC0415
    from ptycho_core.config.payload import ScanFacts, resolve_training  # noqa: PLC0415

    facts = ScanFacts(path=Path("simulated.npz"), N=scan.N, n_patterns=scan.n_patterns)
    payload = resolve_training(facts, {"n_groups": 1, "architecture": architecture}, output_dir=Path("unused"))
    return TrainedModel(
        payload=payload,
        generator=build_generator(payload.pt_model_config, payload.pt_data_config).eval(),
        probes=(ScanProbe(probe=scan.probe, start_probe=scan.probe, flux=float(np.sum(np.abs(scan.probe) ** 2))),),
        history=(),
        code_version="benchmark",
    )


def _network_calls(model: TrainedModel, scan: Scan, execution: PyTorchExecutionConfig) -> list[Call]:
    """Watch the networks during one reconstruction."""
    from networks import watched  # noqa: PLC0415 - in the fresh process only

    from ptycho_adapters.torch_backend import reconstruct  # noqa: PLC0415
    from ptycho_core.config import TorchInferenceConfig  # noqa: PLC0415

    settings = TorchInferenceConfig(probe_source="model", probe_rounds=0)
    with watched(model.generator, execution.accelerator) as calls:
        reconstruct(model, scan, execution_config=execution, inference_config=settings)
    # The first two steps only measure memory, on a small piece.
    return calls[min(2, len(model.generator.steps())) :]


def main() -> None:
    """Measure every case in a process of its own and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], choices=[64, 128, 256], help="px")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", default=["32-true"], choices=["32-true", "bf16-mixed"])
    parser.add_argument("--architecture", default="unrolled", help="without an archive")
    parser.add_argument("--archive", type=Path, help="our trained model, of the one size asked for")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--object-factor", type=float, default=2.0, help="side of the object over that of a pattern")
    asked = vars(parser.parse_args())
    sizes, precisions, batches = (asked.pop(name) for name in ("sizes", "precisions", "batch_sizes"))
    cases = [
        in_fresh_process(measure, {"case": Case(**asked, size=size, precision=precision, batch_size=batch)})
        for size, precision, batch in itertools.product(sizes, precisions, batches)
    ]
    write("inference", cases)
    panels = [
        Panel(
            title=f"{size} px, {cases[0]['machine']['device']}",
            x="batch size",
            y="patterns/s",
            x_scale="log",
            y_scale="log",
            lines={
                f"{figure.removesuffix('_patterns_per_s').replace('_', ' ')}, {precision}": (
                    batches,
                    [c[figure] for c in cases if (c["size_px"], c["precision"]) == (size, precision)],
                )
                for precision in precisions
                for figure in ("network_patterns_per_s", "end_to_end_patterns_per_s")
            },
        )
        for size in sizes
    ]
    draw("inference", panels)


if __name__ == "__main__":
    main()
