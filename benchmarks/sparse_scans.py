"""Few frames far apart, beside LSQ-ML with many: `python benchmarks/sparse_scans.py --help`, with pty-chi installed.

The same simulated objects under the same light per area: a scan whose frames overlap little, with as many more photons
in each, and one whose frames overlap as solvers want it. Everybody has the true probe and keeps it. Ours is pass and
finish of the shipped weights; the solver's epoch is the best by the truth, which no user could pick.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import attrs
import lsqml
from dose_overlap import diameter_px
from harness import Figures, in_fresh_process, write
from quality import truth_judge

from ptycho_adapters.ptychi.engines import RefineSettings
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_core.simulation.objects import ObjectKind

_FIGURES = ("phase_correlation", "amplitude_ssim", "phase_ssim")


def measure(*, sparse: SimulationConfig, dense: SimulationConfig, epochs: int, threads: int) -> Figures:
    """Simulate both, reconstruct the sparse one, and let the solver try either."""
    lsqml.mend_torchvision()
    from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415 - in the fresh process only
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig  # noqa: PLC0415

    few, many = simulate(sparse), simulate(dense)
    judge = truth_judge(few)
    settings = TorchInferenceConfig(probe_rounds=0, finish="auto")
    execution = PyTorchExecutionConfig(num_threads=threads, enable_progress_bar=False)
    result = reconstruct(generalist_for(few), few, inference_config=settings, execution_config=execution)
    ours = judge.scores(result.object, result.origin_px)
    case: Figures = {
        "object": sparse.object_kind,
        "seed": sparse.seed,
        "patterns": [few.n_patterns, many.n_patterns],
        "photons": [sparse.photons, dense.photons],
        "ours, sparse": {"seconds": sum(result.seconds.values()), **{name: ours[name] for name in _FIGURES}},
    }
    for name, scan in (("LSQ-ML, sparse", few), ("LSQ-ML, dense", many)):
        scored = truth_judge(scan)
        found = [
            (epoch.seconds, scored.scores(epoch.object, epoch.origin_px))
            for epoch in lsqml.solve(scan, RefineSettings(refine_probe=False), epochs)
        ]
        best = {key: max(scores[key] for _, scores in found) for key in _FIGURES}
        case[name] = {"seconds": found[-1][0], **best}
    return case


def plan(asked: argparse.Namespace) -> Sequence[tuple[SimulationConfig, SimulationConfig]]:
    """Pair each scan of frames far apart with one of many."""
    pairs = []
    for kind in asked.object_kinds:
        for seed in asked.seeds:
            base = SimulationConfig(object_kind=kind, object_size_px=asked.object_size, seed=seed, jitter_px=1.0)
            steps = [(1.0 - overlap) * diameter_px(base) for overlap in (asked.sparse, asked.dense)]
            photons = [asked.photons * (step / steps[1]) ** 2 for step in steps]
            sparse, dense = (
                attrs.evolve(base, step_px=step, photons=light) for step, light in zip(steps, photons, strict=True)
            )
            pairs.append((sparse, dense))
    return pairs


def main() -> None:
    """Measure every pair in a process of its own."""
    kinds: list[ObjectKind] = ["cells", "chip", "dead-leaves"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--object-kinds", nargs="+", default=kinds)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--object-size", type=int, default=192, help="px")
    parser.add_argument("--photons", type=float, default=1e5, help="in each frame of the dense scan")
    parser.add_argument("--sparse", type=float, default=0.2, help="overlap of few frames")
    parser.add_argument("--dense", type=float, default=0.6, help="overlap of many frames")
    parser.add_argument("--epochs", type=int, default=60, help="of the solver")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    lsqml.require_solver()
    shared = {"epochs": asked.epochs, "threads": asked.threads}
    cases = [in_fresh_process(measure, {"sparse": few, "dense": many, **shared}) for few, many in plan(asked)]
    write("sparse_scans", cases)


if __name__ == "__main__":
    main()
