"""A finish beside the pass that it sets out from and beside LSQ-ML: `python benchmarks/finish.py --help`.

Simulated scans with their true probe. Scores leave shift, ramp, scale and constant phase free, as gauges of a solver;
`error_times_n`, which only our answers have, does not: it is the mean squared error of the object where a tenth of the
brightest light or more falls, constant phase free, over the mean of one over the photons there: 1 is what no unbiased
estimate goes below. Seconds are those of the processor, in one thread: of the pass, of the finish after it, and of
LSQ-ML by pty-chi (where it is installed), probe fixed, until its mean error of the phase is that of the finish; its
best epoch is given where it never is.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import attrs
import numpy as np
from harness import Figures, write
from quality import Judge, truth_judge

from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.measurement.scan import Scan
from ptycho_core.physics.optics import accumulate_patches
from ptycho_core.physics.stitching import CanvasFrame
from ptycho_core.simulation.objects import ObjectKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


_LIT = 0.1
_PHASE = "phase_mae_rad"


def cases(seed: int) -> dict[str, SimulationConfig]:
    """List the scans by name: object, size, step, photons per pattern."""
    listed = [
        (ObjectKind.DEAD_LEAVES, 64, 5.0, 1e4),
        (ObjectKind.DEAD_LEAVES, 64, 5.0, 1e6),
        (ObjectKind.CHIP, 64, 13.0, 1e3),
        (ObjectKind.CHIP, 64, 13.0, 1e4),
        (ObjectKind.CHIP, 64, 13.0, 1e6),
        (ObjectKind.CELLS, 64, 6.0, 1e6),
        (ObjectKind.SIEMENS_STAR, 64, 5.0, 1e6),
        (ObjectKind.CHIP, 128, 12.0, 1e6),
    ]
    base = SimulationConfig(seed=seed)
    return {
        f"{kind} {size} px step {step:g} photons {photons:.0e}": attrs.evolve(
            base, object_kind=kind, N=size, object_size_px=size + round(12 * step), step_px=step, photons=photons
        )
        for kind, size, step, photons in listed
    }


@attrs.frozen(kw_only=True, eq=False)
class Truth:
    """What answers are compared with.

    Attributes:
        scan: with its true object.
        judge: SSIM and correlations.
    """

    scan: Scan
    judge: Judge

    def light(self, origin_px: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float64]:
        """Photons (H, W) on each pixel of a canvas."""
        one = np.square(np.abs(self.scan.probe.astype(np.complex128))).sum(axis=0)
        patches = np.broadcast_to(one, (self.scan.n_patterns, *one.shape))
        wider = CanvasFrame(origin_px=(origin_px[0] - 2, origin_px[1] - 2), shape=(shape[0] + 4, shape[1] + 4))
        return np.asarray(accumulate_patches(patches, self.scan.positions_px, wider)[2:-2, 2:-2])

    def figures(self, object_: NDArray[np.complexfloating], origin_px: tuple[int, int]) -> dict[str, float]:
        """Error times photons and what `benchmarks/quality.py` gives."""
        light = self.light(origin_px, object_.shape)
        lit = light > _LIT * light.max()
        (top, left), (height, width) = origin_px, object_.shape
        if self.scan.object is None:
            raise SystemExit("this benchmark needs a scan with its true object")
        around = max(height, width)
        padded = np.pad(self.scan.object, around, constant_values=1.0)
        truth = padded[around + top : around + top + height, around + left : around + left + width]
        turn = np.exp(-1j * np.angle((object_ * truth.conj())[lit].sum()))
        error = np.square(np.abs(object_ * turn - truth))[lit].mean() / (1.0 / light[lit]).mean()
        return {"error_times_n": float(error), **self.judge.scores(object_, origin_px)}


def ours(truth: Truth) -> Iterator[tuple[str, dict[str, float]]]:
    """Give the pass, and the finished object."""
    from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415 - torch

    model = generalist_for(truth.scan)
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)
    reconstruct(model, truth.scan, execution_config=quiet, inference_config=TorchInferenceConfig(probe_rounds=0))
    before = 0.0
    wishes = TorchInferenceConfig(probe_rounds=0), TorchInferenceConfig(probe_rounds=0, finish="auto")
    for name, wish in zip(("pass", "finish"), wishes, strict=True):
        began = time.process_time()
        result = reconstruct(model, truth.scan, execution_config=quiet, inference_config=wish)
        seconds = time.process_time() - began - before
        before = seconds
        made = {"steps": result.metrics["finish_steps"]} if "finish_steps" in result.metrics else {}
        yield name, {"seconds": seconds, **made, **truth.figures(result.object, result.origin_px)}


def solver(truth: Truth, target: float, epochs: int) -> dict[str, float]:
    """Run LSQ-ML until its phase errs as little as that of the finish; its best epoch if it never does."""
    import lsqml  # noqa: PLC0415 - torchvision has to be mended first

    from ptycho_adapters.ptychi.engines import RefineSettings  # noqa: PLC0415

    settings = RefineSettings(refine_probe=False)
    best = {_PHASE: float("inf")}
    spent, going = 0.0, lsqml.solve(truth.scan, settings, epochs)
    for number in range(1, epochs + 1):
        began = time.process_time()
        epoch = next(going)
        spent += time.process_time() - began
        seen = {"seconds": spent, "epochs": float(number), **truth.judge.scores(epoch.object, epoch.origin_px)}
        best = min(best, seen, key=lambda each: each[_PHASE])
        if best[_PHASE] <= target:
            break
    return {**best, "seconds_in_all": spent}


def main() -> None:
    """Measure every scan and write figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=100, help="of LSQ-ML at most; 0 leaves it out")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    asked = parser.parse_args()
    if asked.epochs:
        import lsqml  # noqa: PLC0415

        lsqml.mend_torchvision()
        lsqml.require_solver()
    rows: list[Figures] = []
    for name, config in cases(asked.seed).items():
        if asked.only not in name:
            continue
        scan = simulate(config)
        truth = Truth(scan=scan, judge=truth_judge(scan))
        light = truth.light((0, 0), scan.object.shape if scan.object is not None else (1, 1))
        answers = dict(ours(truth))
        if asked.epochs:
            answers["LSQ-ML"] = solver(truth, answers["finish"][_PHASE], asked.epochs)
        n = float(light[light > _LIT * light.max()].mean())
        print(f"{name}, n {n:.0f}")
        for what, figures in answers.items():
            print(f"    {what:8}", "  ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
        rows.append({"case": name, "patterns": scan.n_patterns, "n": n, **answers})
    write("finish", rows)


if __name__ == "__main__":
    main()
