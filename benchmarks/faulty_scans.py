"""Our default reconstruction beside LSQ-ML on scans with faults, in one run: `python benchmarks/faulty_scans.py FILES`.

Each file holds a faulty scan and its true object. We get it as the command line would, with the shipped weights; the
solver gets the patterns as they are in the file and refines probe, incoherent modes and positions. Both are scored by
the true object on the pixels that the file's probe lights, with shift, phase ramp, scale and constant phase free.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import lsqml
from harness import Figures, in_fresh_process, write
from quality import Judge, truth_judge

from ptycho_adapters.ptychi.engines import RefineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_core.measurement.scan import Scan


def _load(path: Path, *, screened: bool) -> tuple[Scan, Judge]:
    from ptycho_adapters.files import DetectorCheck, read_scan  # noqa: PLC0415

    scan = read_scan(path, detector_check=DetectorCheck.MASK if screened else DetectorCheck.OFF)
    return scan, truth_judge(scan)


def ours(*, path: Path, threads: int) -> Figures:
    """Reconstruct with the shipped weights and defaults."""
    lsqml.mend_torchvision()
    from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415
    from ptycho_core.config import PyTorchExecutionConfig  # noqa: PLC0415

    scan, judge = _load(path, screened=True)
    quiet = PyTorchExecutionConfig(enable_progress_bar=False, num_threads=threads)
    started = time.perf_counter()
    result = reconstruct(generalist_for(scan), scan, execution_config=quiet)
    seconds = time.perf_counter() - started
    score = judge.scores(result.object, result.origin_px)["phase_correlation"]
    return {"who": "ours", "scan": str(path), "phase_correlation": score, "seconds": seconds}


def solver(*, path: Path, threads: int, epochs: int, settings: RefineSettings) -> Figures:
    """Run the solver; its best epoch by the truth is given too, which is more than a user could know."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    scan, judge = _load(path, screened=False)
    best = 0.0
    for epoch in lsqml.solve(scan, settings, epochs):
        if epoch.number % 5 == 0 or epoch.number == epochs:
            score = float(judge.scores(epoch.object, epoch.origin_px)["phase_correlation"])
            best = max(best, score)
    return {
        "who": f"LSQ-ML, pty-chi {lsqml.version()}",
        "scan": str(path),
        "settings": attrs.asdict(settings),
        "epochs": epochs,
        "phase_correlation": score,
        "best_phase_correlation": best,
        "seconds": epoch.seconds,
    }


def table(cases: Sequence[Figures]) -> str:
    """Both, file by file, in Markdown."""
    rows = ["| scan | ours | s | LSQ-ML | its best epoch | s |", "|---|---|---|---|---|---|"]
    for one, other in zip(cases[::2], cases[1::2], strict=True):
        rows.append(
            f"| {Path(str(one['scan'])).parent.name} | {one['phase_correlation']:.3f} | {one['seconds']:.0f} | "
            f"{other['phase_correlation']:.3f} | {other['best_phase_correlation']:.3f} | {other['seconds']:.0f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run both on every file, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scans", type=Path, nargs="+", metavar="FILE", help="faulty scan with its true object")
    parser.add_argument("--epochs", type=int, default=120, help="of the solver")
    parser.add_argument("--modes", type=int, default=3, help="of the solver's probe")
    parser.add_argument("--batch-size", type=int, default=30, help="of the solver")
    parser.add_argument("--noise-model", choices=["gaussian", "poisson"], default="gaussian")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    lsqml.require_solver()
    settings = RefineSettings(
        noise_model=asked.noise_model, batch_size=asked.batch_size, probe_modes=asked.modes, position_refinement=True
    )
    cases: list[Figures] = []
    for path in asked.scans:
        case = {"path": path, "threads": asked.threads}
        cases += [
            in_fresh_process(ours, case),
            in_fresh_process(solver, {**case, "epochs": asked.epochs, "settings": settings}),
        ]
        print(table(cases[-2:]).splitlines()[-1], flush=True)
    write("faulty_scans", cases)
    print(table(cases))


if __name__ == "__main__":
    main()
