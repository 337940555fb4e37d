"""Training speed and memory: `python benchmarks/training.py [--help]`.

The time of a short run is taken off that of a longer one, so that start-up does not count; Lightning's own cost per
step does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Figures, in_fresh_process, peak_memory_mb, write

if TYPE_CHECKING:
    from ptycho_core.scan import Scan


def measure(*, size: int, threads: int, precision: str, architecture: str, gridsize: int, steps: int) -> Figures:
    """Train twice on a simulated scan and compare the times."""
    import torch  # noqa: PLC0415 - in the fresh process only

    from ptycho_core.simulation import SimulationConfig, simulate  # noqa: PLC0415

    torch.set_num_threads(threads)
    scan = simulate(SimulationConfig(N=size, object_size_px=2 * size, step_px=size / 16, photons=1e6))
    settings: Figures = {"architecture": architecture, "gridsize": gridsize, "precision": precision, "n_groups": steps}
    _seconds(scan, settings, epochs=1)
    short, long = _seconds(scan, settings, epochs=1), _seconds(scan, settings, epochs=4)
    per_step = (long - short) / (3 * steps)
    return {
        "size_px": size,
        "threads": threads,
        "precision": precision,
        "architecture": architecture,
        "patterns_per_step": gridsize**2,
        "steps_per_s": 1 / per_step,
        "patterns_per_s": gridsize**2 / per_step,
        "peak_memory_mb": peak_memory_mb(),
    }


def _seconds(scan: Scan, settings: Figures, *, epochs: int) -> float:
    from ptycho_adapters.torch_backend import train  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig  # noqa: PLC0415
    from ptycho_core.payload import ScanFacts, resolve_training  # noqa: PLC0415

    execution = PyTorchExecutionConfig(
        accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False, logger_backend=None
    )
    overrides = {**settings, "epochs": epochs, "batch_size": 1, "validation_fraction": 0.0, "neighbor_count": 12}
    with tempfile.TemporaryDirectory() as folder:
        facts = ScanFacts(path=Path("simulated.npz"), N=scan.N, n_patterns=scan.n_patterns)
        payload = resolve_training(facts, overrides, execution, output_dir=Path(folder))
        started = time.perf_counter()
        train(payload, scan)
        return time.perf_counter() - started


def main() -> None:
    """Measure every size in a process of its own and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], choices=[64, 128, 256], help="px")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--architecture", default="unrolled")
    parser.add_argument("--gridsize", type=int, default=3, help="a step is one group of gridsize² patterns")
    parser.add_argument("--steps", type=int, default=30, help="steps per epoch")
    asked = vars(parser.parse_args())
    sizes = asked.pop("sizes")
    write("training", [in_fresh_process(measure, {**asked, "size": size}) for size in sizes])


if __name__ == "__main__":
    main()
