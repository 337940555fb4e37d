"""Halves of a scan, each by itself: how far a reconstruction agrees with itself, beside an iterative solver.

`python benchmarks/halves.py SCAN` with pty-chi installed. Both get the same halves, which cover the same area alike,
and the scan's probe. The solver (LSQ-ML) starts from nothing and is judged along its way, since noise sets in later;
its best epoch counts. What halves share without the data (a network's habits, the guess of the probe) agrees too:
beside each row stands how well the halves explain their own patterns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.ptychi.installation import mend_torchvision, require

mend_torchvision()

from ptycho_adapters import generalist_for, read_scan, reconstruct  # noqa: E402
from ptycho_adapters.commands.reconstruct import OWN_DEFAULTS  # noqa: E402
from ptycho_adapters.ptychi.engines import RefineSettings  # noqa: E402
from ptycho_adapters.ptychi.result import reconstruction_of  # noqa: E402
from ptycho_adapters.ptychi.solver import Solver  # noqa: E402
from ptycho_adapters.ptychi.start import cold_start  # noqa: E402
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: E402
from ptycho_core.measurement.splitting import split_halves  # noqa: E402
from ptycho_core.results.split_half import split_half  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_RINGS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)  # cycles per pixel
_HALF_WIDTH = 0.025


_OURS: dict[str, dict[str, object]] = {
    "pass": {},
    "finish": {"finish": "auto"},
    "`reconstruct`": {**OWN_DEFAULTS, "error_bars": False},  # which change nothing else
}


def ours(half: Scan, rounds: int | None, threads: int, settings: dict[str, object]) -> Reconstruction:
    """Reconstruct a half without a training."""
    return reconstruct(
        generalist_for(half),
        half,
        execution_config=PyTorchExecutionConfig(num_threads=threads, enable_progress_bar=False),
        inference_config=TorchInferenceConfig(probe_rounds=rounds, **settings),  # type: ignore[arg-type]
    )


def solved(half: Scan, epochs: list[int], settings: RefineSettings) -> Iterator[Reconstruction]:
    """Give what the solver has after each of these epochs."""
    start, began = cold_start(half), time.perf_counter()
    solver, done = Solver(half, start, settings), 0
    for epoch in epochs:
        while done < epoch:
            solver.step()
            done += 1
        found = (solver.object, solver.probe, solver.positions_px)
        yield reconstruction_of(half, start, found, time.perf_counter() - began)


def row(name: str, first: Reconstruction, second: Reconstruction, seconds: float, margin_px: int) -> str:
    """Judge a pair."""
    judged = split_half(first, second, margin_px=margin_px)
    ring = judged.phase_ring
    near = [np.abs(ring.frequency_per_px - at) <= _HALF_WIDTH for at in _RINGS]
    shown = " | ".join(f"{ring.correlation[some].mean():.3f}" for some in near)
    r_factor = np.mean([each.metrics["r_factor"] for each in (first, second)])
    agreement = f"{judged.phase_correlation:.3f} | {ring.frc50_per_px:.3f} | {shown}"
    return f"| {name} | {agreement} | {r_factor:.4f} | {seconds:.0f} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--patterns", type=int, help="the first so many; all by default")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 10, 20, 30, 40, 60, 80], help="of the solver")
    parser.add_argument("--probe-rounds", type=int, help="of ours; as many as by default")
    parser.add_argument("--noise-model", choices=["gaussian", "poisson"], default="gaussian", help="of the solver")
    parser.add_argument("--solver-modes", type=int, help="of the probe in the solver; those of the scan by default")
    parser.add_argument("--solver-alone", action="store_true", help="leave ours out")
    parser.add_argument("--margin-px", type=int, default=4, help="rim of the covered area that is not judged")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    require()
    scan = read_scan(asked.scan)
    scan = scan.subset(np.arange(min(asked.patterns or scan.n_patterns, scan.n_patterns)))
    halves = [scan.subset(indices) for indices in split_halves(scan.positions_px)]
    rings = " | ".join(f"at {at}" for at in _RINGS)
    print(f"| | phase correlation | FRC 1/2 | {rings} | R-factor | s |")
    print("|---|" + "---|" * (len(_RINGS) + 4), flush=True)
    for name, settings_of_ours in () if asked.solver_alone else _OURS.items():
        began = time.perf_counter()
        first, second = (ours(half, asked.probe_rounds, asked.threads, settings_of_ours) for half in halves)
        print(row(name, first, second, time.perf_counter() - began, asked.margin_px), flush=True)
    began, settings = time.perf_counter(), RefineSettings(noise_model=asked.noise_model, probe_modes=asked.solver_modes)
    both = zip(*(solved(half, asked.epochs, settings) for half in halves), strict=True)
    for epoch, (first, second) in zip(asked.epochs, both, strict=True):
        print(row(f"LSQ-ML, {epoch} epochs", first, second, time.perf_counter() - began, asked.margin_px), flush=True)


if __name__ == "__main__":
    main()
