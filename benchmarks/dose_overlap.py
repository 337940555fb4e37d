"""Quality over dose and overlap, beside LSQ-ML: `python benchmarks/dose_overlap.py --help`.

Simulated scans of an object of one class, on whole pixels, so that nobody interpolates. Everybody is given the true
probe. Overlap is linear: 1 - step / diameter,
where the diameter holds nine tenths of the probe's light. Our result is one pass of a given model; the solver runs with
a Gaussian and with a Poisson model of the noise, and for each figure its best epoch is chosen by the truth, which no
user could do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import lsqml
import numpy as np
from charts import Panel, draw
from harness import Figures, in_fresh_process, write
from quality import SCORES, one_pass, shown, truth_judge

from ptycho_adapters.ptychi.engines import RefineSettings
from ptycho_core.physics.probes import make_probe
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIT_SHARE = 0.9


def diameter_px(config: SimulationConfig) -> float:
    """Diameter of the disc around the centre that holds nine tenths of the probe's light."""
    light = np.square(np.abs(make_probe(config.probe_kind, config.N, photons=1.0))).sum(axis=0)
    y, x = np.indices(light.shape) - (config.N - 1) / 2
    radius = np.hypot(y, x).ravel()
    order = np.argsort(radius)
    inside = np.cumsum(light.ravel()[order]) / light.sum()
    return float(2 * radius[order][np.searchsorted(inside, _LIT_SHARE)])


def measure(
    *, config: SimulationConfig, overlap: float, archive: Path | None, epochs: int, refine_probe: bool
) -> Figures:
    """Simulate a scan, reconstruct it in one pass, and let the solver try."""
    import torch  # noqa: PLC0415 - in the fresh process only

    lsqml.mend_torchvision()
    from ptycho_adapters.torch_backend import generalist_for, load_archive  # noqa: PLC0415

    scan = simulate(config)
    judge = truth_judge(scan)
    model = generalist_for(scan) if archive is None else load_archive(archive)
    result, seconds = one_pass(model, scan, repeats=2, rounds=None)
    case: Figures = {
        "photons": config.photons,
        "overlap": overlap,
        "step_px": config.step_px,
        "patterns": scan.n_patterns,
        "threads": torch.get_num_threads(),
        "ours": {"seconds": seconds, "scores": judge.scores(result.object, result.origin_px)},
    }
    for noise_model in ("gaussian", "poisson"):
        settings = RefineSettings(noise_model=noise_model, refine_probe=refine_probe)
        rows = [
            {"epoch": epoch.number, "seconds": epoch.seconds, "scores": judge.scores(epoch.object, epoch.origin_px)}
            for epoch in lsqml.solve(scan, settings, epochs)
        ]
        case[f"LSQ-ML {noise_model}"] = {
            "seconds": rows[-1]["seconds"],
            "scores": {name: _best(rows, name)["scores"][name] for name in SCORES},
            "best_epochs": {name: _best(rows, name)["epoch"] for name in SCORES},
            "last_scores": rows[-1]["scores"],
        }
    return case


def _best(rows: Sequence[Figures], name: str) -> Figures:
    """Return the row with the best value of a figure; errors are good when small."""
    sign = -1 if name.endswith("mae_rad") else 1
    return max(rows, key=lambda row: sign * row["scores"][name])


def plan(asked: argparse.Namespace) -> list[tuple[SimulationConfig, float]]:
    """List the scans: doses at one overlap, then overlaps at one dose."""
    base = SimulationConfig(
        N=asked.size,
        object_kind=asked.object_kind,
        probe_kind=asked.probe_kind,
        object_size_px=asked.object_size,
        seed=asked.seed,
        whole_pixel=not asked.sub_pixel,
    )
    diameter = diameter_px(base)
    points = [(dose, asked.overlap) for dose in asked.doses] + [(asked.dose, overlap) for overlap in asked.overlaps]
    return [
        (attrs.evolve(base, photons=dose, step_px=(1 - overlap) * diameter, jitter_px=1.0), overlap)
        for dose, overlap in dict.fromkeys(points)
    ]


def panels(cases: Sequence[Figures], asked: argparse.Namespace) -> list[Panel]:
    """Quality over dose, and over overlap."""
    result = []
    for name in ("phase_ssim", "amplitude_ssim", "phase_frc50_per_px"):
        for key, label, fixed, value in (
            ("photons", "photons per frame", "overlap", asked.overlap),
            ("overlap", "overlap", "photons", asked.dose),
        ):
            some = sorted((case for case in cases if case[fixed] == value), key=lambda case: case[key])
            result.append(
                Panel(
                    title=f"{asked.object_kind}, {fixed} {value:g}",
                    x=label,
                    y=name,
                    x_scale="log" if key == "photons" else "linear",
                    lines={
                        who: ([case[key] for case in some], [case[who]["scores"][name] for case in some])
                        for who in ("ours", "LSQ-ML gaussian", "LSQ-ML poisson")
                    },
                )
            )
    return [result[i] for i in (0, 2, 4, 1, 3, 5)]


def main() -> None:
    """Measure every scan in a process of its own and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, help="our trained model (default: the weights in the package)")
    parser.add_argument("--size", type=int, default=64, help="side of a pattern, as the model was trained [px]")
    parser.add_argument("--doses", type=float, nargs="+", default=[1e3, 1e4, 1e5, 1e6, 1e7], help="photons per frame")
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6, 0.8])
    parser.add_argument("--dose", type=float, default=1e6, help="of the curve over overlap")
    parser.add_argument("--overlap", type=float, default=0.6, help="of the curve over dose")
    parser.add_argument("--object-kind", default="cells", help="class of object, best one that the model never saw")
    parser.add_argument("--probe-kind", default="zone-plate")
    parser.add_argument("--object-size", type=int, default=224, help="px")
    parser.add_argument("--epochs", type=int, default=60, help="of the solver, each looked at")
    parser.add_argument("--refine-probe", action="store_true", help="let the solver refine the (true) probe")
    parser.add_argument("--sub-pixel", action="store_true", help="positions between pixels, which cost the solver more")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    lsqml.require_solver()
    cases = []
    for config, overlap in plan(asked):
        arguments = {"config": config, "overlap": overlap, "archive": asked.archive}
        case = in_fresh_process(measure, {**arguments, "epochs": asked.epochs, "refine_probe": asked.refine_probe})
        for who in ("ours", "LSQ-ML gaussian", "LSQ-ML poisson"):
            print(f"{config.photons:.0e} photons, overlap {overlap:.1f}, {who}: {shown(case[who]['scores'])}")
        cases.append(case)
    write("dose_overlap", cases)
    draw("dose_overlap", panels(cases, asked))


if __name__ == "__main__":
    main()
