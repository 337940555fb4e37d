"""Two versions of this package on the same reconstruction, in turn: `python benchmarks/paired.py BEFORE/src AFTER/src`.

Each version runs in a process of its own with one thread, one call after the other, so that both meet the same load of
the machine; figures are processor seconds: the median of each, and the median of the ratios within the pairs.
Weights are the shipped ones. With `--batch-sizes` two numbers of patterns at a time may be compared as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import Figures, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PARTS = ("whole_call", "pass")


def main() -> None:
    """Measure, print and write `results/paired.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC", help="folder of the packages: before, after")
    parser.add_argument("--scan", type=Path, help="scan file; by default 258 simulated patterns of 128 px")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--batch-sizes", type=int, nargs=2, metavar=("BEFORE", "AFTER"), help="default: its own")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _serve(asked.scan, asked.precision, None if asked.batch_sizes is None else asked.batch_sizes[0])
        return
    batches = asked.batch_sizes or (None, None)
    sides = [
        _Side(source.resolve(), asked.scan, asked.precision, batch)
        for source, batch in zip((asked.sources * 2)[:2], batches, strict=True)
    ]
    rows = [[side.measure() for side in sides] for _ in range(asked.pairs + 1)][1:]
    for side in sides:
        side.end()
    write("paired", [_case(part, rows) for part in _PARTS])


def _case(part: str, rows: Sequence[Sequence[Figures]]) -> Figures:
    seconds = np.array([[float(side[part]) for side in pair] for pair in rows])
    ratios = seconds[:, 1] / seconds[:, 0]
    before, after = np.median(seconds, axis=0).tolist()
    apart = [abs(float(after["deviance"]) - float(before["deviance"])) for before, after in rows]
    quartiles = np.percentile(ratios, [25, 75]).tolist()
    return {
        "part": part,
        "processor_s_before": before,
        "processor_s_after": after,
        "median_ratio": float(np.median(ratios)),
        "quartiles_of_ratio": quartiles,
        "largest_difference_of_deviance": max(apart),
    }


class _Side:
    """One version at work in a process of its own."""

    def __init__(self, source: Path, scan: Path | None, precision: str, batch: int | None) -> None:
        command = [sys.executable, __file__, str(source), "--child", "--precision", precision]
        command += [] if scan is None else ["--scan", str(scan)]
        command += [] if batch is None else ["--batch-sizes", str(batch), str(batch)]
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self) -> Figures:
        """Let it reconstruct once."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("expected a process with pipes")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("one of the two ended; its message is above")
        figures: Figures = json.loads(line)
        return figures

    def end(self) -> None:
        """Close its input, at which it ends."""
        self._process.communicate()


def _serve(path: Path | None, precision: str, batch: int | None) -> None:
    """Reconstruct once for each line on standard input, and say what it took."""
    work = _prepared(path, precision, batch)
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


def _prepared(path: Path | None, precision: str, batch: int | None) -> Callable[[], Figures]:
    from ptycho_adapters.files import read_scan  # noqa: PLC0415 - of the version that is asked for
    from ptycho_adapters.run import framework  # noqa: PLC0415
    from ptycho_adapters.torch_backend import reconstruct  # noqa: PLC0415
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    made = SimulationConfig(N=128, object_size_px=300, step_px=10.75, photons=1e6)
    scan = simulate(made) if path is None else read_scan(path)
    model = framework("pytorch").generalist_for(scan)
    execution = PyTorchExecutionConfig(
        accelerator="cpu", enable_progress_bar=False, precision=precision, inference_batch_size=batch
    )
    settings = TorchInferenceConfig(probe_rounds=0, probe_source="scan")
    spent: list[float] = []
    plain = WholeScan.stitch

    def timed(run: WholeScan, steps: int | None = None) -> object:
        started = time.process_time()
        made = plain(run, steps)
        spent.append(time.process_time() - started)
        return made

    WholeScan.stitch = timed

    def work() -> Figures:
        spent.clear()
        started = time.process_time()
        result = reconstruct(model, scan, execution_config=execution, inference_config=settings)
        whole = time.process_time() - started
        return {"whole_call": whole, "pass": spent[-1], "deviance": result.metrics["deviance_per_px"]}

    return work


if __name__ == "__main__":
    main()
