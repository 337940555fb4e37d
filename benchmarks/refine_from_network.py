"""An iterative solver from the network's object and from nothing: `python benchmarks/refine_from_network.py --help`.

Both run LSQ-ML by pty-chi with the same settings. Converged is what the cold start reaches at the end, to 2 %:
epochs and seconds until each is there, those of the network included. The ends are judged by this library's R-factor.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.ptychi.installation import mend_torchvision, require

mend_torchvision()

from ptycho_adapters import generalist_for, read_scan, reconstruct  # noqa: E402
from ptycho_adapters.ptychi.engines import RefineSettings  # noqa: E402
from ptycho_adapters.ptychi.result import reconstruction_of  # noqa: E402
from ptycho_adapters.ptychi.solver import Solver  # noqa: E402
from ptycho_adapters.ptychi.start import cold_start, start_from  # noqa: E402
from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: E402

if TYPE_CHECKING:
    from ptycho_adapters.ptychi.start import Start
    from ptycho_core.measurement.scan import Scan

_NEAR = 1.02


@attrs.frozen(kw_only=True)
class Course:
    """Errors and seconds by the end of each epoch, and the R-factor after the last."""

    errors: list[float]
    seconds: list[float]
    r_factor: float

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
    return Course(errors=errors, seconds=seconds, r_factor=judged.metrics["r_factor"])


def compare(name: str, scan: Scan, epochs: int, settings: RefineSettings) -> None:
    """Print a row."""
    model = generalist_for(scan)
    reconstruct(model, scan.subset(range(16)))  # what is loaded once is not counted
    began = time.perf_counter()
    first = reconstruct(model, scan)
    network_s = time.perf_counter() - began
    cold = course(scan, cold_start(scan), epochs, 0.0, settings)
    warm = course(scan, start_from(first, scan), epochs, network_s, settings)
    target = cold.errors[-1] * _NEAR
    there, also = cold.reached(target), warm.reached(target)
    shown = ["not reached" if each is None else f"{each[0]} epochs, {each[1]:.1f} s" for each in (there, also)]
    print(
        f"| {name} | {scan.n_patterns} | {network_s:.1f} | {shown[0]} | {shown[1]} | {first.metrics['r_factor']:.4f} "
        f"| {cold.r_factor:.4f} | {warm.r_factor:.4f} |",
        flush=True,
    )


def main() -> None:
    """Compare on simulated scans and on those that are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, action="append", default=[], help="measured scan; as many as wanted")
    parser.add_argument("--patterns", type=int, default=260, help="of a measured scan, the first so many")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--object-size-px", type=int, default=160, help="of the simulated scans")
    asked = parser.parse_args()
    require()
    settings = RefineSettings()
    print("| scan | patterns | network s | cold start | neural start | R network | R cold | R neural |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for path in asked.scan:
        scan = read_scan(path)
        compare(path.stem, scan.subset(range(min(asked.patterns, scan.n_patterns))), asked.epochs, settings)
    for kind, photons in (("dead-leaves", 1e6), ("siemens-star", 1e6), ("dead-leaves", 1e4)):
        made = simulate(
            SimulationConfig(object_kind=kind, object_size_px=asked.object_size_px, step_px=8, photons=photons, seed=7)
        )
        compare(f"{kind}, {photons:.0e} photons", made, asked.epochs, settings)


if __name__ == "__main__":
    main()
