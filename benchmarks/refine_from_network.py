"""An iterative solver from the network's object and from nothing: `python benchmarks/refine_from_network.py --help`.

Both run LSQ-ML by pty-chi with the same settings. Converged is what the cold start reaches at the end, to 2 %:
epochs and seconds until each is there, those of the network included. The ends are judged by this library's R-factor
and, of simulated scans, by the phase correlation with the truth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from dose_overlap import diameter_px
from quality import truth_judge

from ptycho_adapters.ptychi.installation import mend_torchvision, require

mend_torchvision()

from ptycho_adapters import generalist_for, read_scan, reconstruct  # noqa: E402
from ptycho_adapters.ptychi.engines import RefineSettings  # noqa: E402
from ptycho_adapters.ptychi.result import reconstruction_of  # noqa: E402
from ptycho_adapters.ptychi.solver import Solver  # noqa: E402
from ptycho_adapters.ptychi.start import cold_start, start_from  # noqa: E402
from ptycho_core.config import TorchInferenceConfig  # noqa: E402
from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: E402

if TYPE_CHECKING:
    from ptycho_adapters.ptychi.start import Start
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_NEAR, _LITTLE_OVERLAP = 1.02, 0.2


@attrs.frozen(kw_only=True)
class Course:
    """Errors and seconds by the end of each epoch, and what is judged after the last."""

    errors: list[float]
    seconds: list[float]
    r_factor: float
    correlation: float | None

    def reached(self, target: float) -> tuple[int, float] | None:
        """Give epochs and seconds until an error was below a target; an error is that before its epoch."""
        for epoch, error in enumerate(self.errors):
            if error <= target:
                return epoch, self.seconds[epoch - 1] if epoch else self.seconds[0]
        return None


def course(scan: Scan, start: Start, epochs: int, before_s: float, settings: RefineSettings) -> Course:
    """Run the solver and note its errors."""
    began = time.perf_counter()
    solver, errors, seconds = Solver(scan, start, settings), [], []
    for _ in range(epochs + 1):
        errors.append(solver.step())
        seconds.append(before_s + time.perf_counter() - began)
    found = (solver.object, solver.probe, solver.positions_px)
    judged = reconstruction_of(scan, start, found, seconds[-1])
    correlation = correlation_of(judged, scan)
    return Course(errors=errors, seconds=seconds, r_factor=judged.metrics["r_factor"], correlation=correlation)


def correlation_of(result: Reconstruction, scan: Scan) -> float | None:
    """Phase correlation with the truth, where that is known."""
    if scan.object is None:
        return None
    return truth_judge(scan).scores(result.object, result.origin_px)["phase_correlation"]


def compare(name: str, scan: Scan, asked: argparse.Namespace) -> None:
    """Print a row."""
    model, settings, epochs = generalist_for(scan), RefineSettings(), asked.epochs
    inference = TorchInferenceConfig(probe_rounds=asked.probe_rounds, finish=asked.finish)
    # What is loaded once is not counted.
    reconstruct(model, scan.subset(range(16)), inference_config=TorchInferenceConfig(probe_rounds=0))
    began = time.perf_counter()
    first = reconstruct(model, scan, inference_config=inference)
    network_s = time.perf_counter() - began
    cold = course(scan, cold_start(scan), epochs, 0.0, settings)
    warm = course(scan, start_from(first, scan), epochs, network_s, settings)
    target = cold.errors[-1] * _NEAR
    there, also = cold.reached(target), warm.reached(target)
    shown = ["not reached" if each is None else f"{each[0]} epochs, {each[1]:.1f} s" for each in (there, also)]
    ends = (correlation_of(first, scan), cold.correlation, warm.correlation)
    told = ["" if each is None else f"{each:.4f}" for each in ends]
    print(
        f"| {name} | {scan.n_patterns} | {network_s:.1f} | {shown[0]} | {shown[1]} | {first.metrics['r_factor']:.4f} "
        f"| {cold.r_factor:.4f} | {warm.r_factor:.4f} | {' | '.join(told)} |",
        flush=True,
    )


def main() -> None:
    """Compare on simulated scans and on those that are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, action="append", default=[], help="measured scan; as many as wanted")
    parser.add_argument("--patterns", type=int, default=260, help="of a measured scan, the first so many")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--object-size-px", type=int, default=160, help="of the simulated scans")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of the simulated scans")
    parser.add_argument("--probe-rounds", type=int, help="of the network; 0 leaves the (true) probe as it is")
    parser.add_argument("--finish", choices=["none", "auto"], default="none", help="of the network's object")
    asked = parser.parse_args()
    require()
    print("| scan | patterns | network s | cold | neural | R network | cold | neural | phase network | cold | neural |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for path in asked.scan:
        scan = read_scan(path)
        compare(path.stem, scan.subset(range(min(asked.patterns, scan.n_patterns))), asked)
    for kind, photons, overlap in (
        ("dead-leaves", 1e6, None),
        ("siemens-star", 1e6, None),
        ("dead-leaves", 1e4, None),
        ("dead-leaves", 1e6, _LITTLE_OVERLAP),
    ):
        for seed in asked.seeds:
            config = SimulationConfig(
                object_kind=kind, object_size_px=asked.object_size_px, step_px=8, photons=photons, seed=seed
            )
            if overlap is not None:
                config = attrs.evolve(config, step_px=(1.0 - overlap) * diameter_px(config))
            sparse = "" if overlap is None else f", overlap {overlap:g}"
            compare(f"{kind}, {photons:.0e} photons{sparse}, seed {seed}", simulate(config), asked)


if __name__ == "__main__":
    main()
