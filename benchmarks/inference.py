"""Reconstruction speed and memory: `python benchmarks/inference.py [--help]`.

Three figures: the network alone, network and stitching, and the whole call (probe, figures of merit and transfers
included). Weights are untrained; they do not matter to the time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import Figures, in_fresh_process, peak_memory_mb, write

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.config.execution import Precision
    from ptycho_core.scan import Scan


def measure(
    *, size: int, threads: int, precision: Precision, architecture: str, batch_size: int, repeats: int
) -> Figures:
    """Reconstruct a simulated scan several times and take the fastest of each figure."""
    import torch  # noqa: PLC0415 - in the fresh process only

    from ptycho_adapters.torch_backend import reconstruct  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415
    from ptycho_core.simulation import SimulationConfig, simulate  # noqa: PLC0415

    torch.set_num_threads(threads)
    scan = simulate(SimulationConfig(N=size, object_size_px=2 * size, step_px=size / 16, photons=1e6))
    model = _model(scan, architecture)
    execution = PyTorchExecutionConfig(accelerator="cpu", precision=precision, inference_batch_size=batch_size)
    settings = TorchInferenceConfig(probe_source="model")
    whole, stitched = [], []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        result = reconstruct(model, scan, execution_config=execution, inference_config=settings)
        whole.append(time.perf_counter() - started)
        stitched.append(result.seconds["network and stitching"])
    network = [_network_seconds(model, scan, batch_size, precision) for _ in range(repeats + 1)]
    return {
        "size_px": size,
        "patterns": scan.n_patterns,
        "threads": threads,
        "precision": precision,
        "architecture": architecture,
        "batch_size": batch_size,
        "network_patterns_per_s": scan.n_patterns / min(network[1:]),
        "network_and_stitching_patterns_per_s": scan.n_patterns / min(stitched[1:]),
        "end_to_end_patterns_per_s": scan.n_patterns / min(whole[1:]),
        "first_call_s": whole[0],
        "peak_memory_mb": peak_memory_mb(),
    }


def _model(scan: Scan, architecture: str) -> TrainedModel:
    from ptycho_adapters.torch_backend import TrainedModel  # noqa: PLC0415
    from ptycho_adapters.torch_backend.generators import build_generator  # noqa: PLC0415
    from ptycho_core.payload import ScanFacts, resolve_training  # noqa: PLC0415

    facts = ScanFacts(path=Path("simulated.npz"), N=scan.N, n_patterns=scan.n_patterns)
    payload = resolve_training(facts, {"n_groups": 1, "architecture": architecture}, output_dir=Path("unused"))
    return TrainedModel(
        payload=payload,
        generator=build_generator(payload.pt_model_config, payload.pt_data_config).eval(),
        probe=scan.probe,
        start_probe=scan.probe,
        flux=float(np.sum(np.abs(scan.probe) ** 2)),
        history=(),
        code_version="benchmark",
    )


def _network_seconds(model: TrainedModel, scan: Scan, batch_size: int, precision: str) -> float:
    """Time of the generator alone: patterns in, patches out, nothing averaged."""
    import torch  # noqa: PLC0415

    from ptycho_adapters.torch_backend.execution import network_precision  # noqa: PLC0415

    amplitude = torch.tensor(scan.amplitude())[:, None]
    probes = torch.tensor(scan.probe).expand(batch_size, 1, -1, -1, -1)
    started = time.perf_counter()
    with torch.inference_mode(), network_precision(precision, torch.device("cpu")):
        for batch in amplitude.split(batch_size):
            model.generator(batch, probes[: len(batch)])
    return time.perf_counter() - started


def main() -> None:
    """Measure every size in a process of its own and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], choices=[64, 128, 256], help="px")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--architecture", default="unrolled")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    asked = vars(parser.parse_args())
    sizes = asked.pop("sizes")
    write("inference", [in_fresh_process(measure, {**asked, "size": size}) for size in sizes])


if __name__ == "__main__":
    main()
