"""Our one pass beside LSQ-ML by pty-chi, in one run: `python benchmarks/against_solver.py --help`.

The solver starts from the scan file's own probe, or from that of `--probe`, and refines it; our pass takes the probe
that `--our-probe` says. Both use the same number of threads, and are
scored alike, by the same reference on the same pixels. Our time is that of the whole call with stitching and the
written product, the model being loaded, as a service would have it; loading is given apart. The solver's time is that
of its epochs, data and set-up included, nothing written.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import lsqml
import numpy as np
from charts import Panel, draw
from harness import Figures, in_fresh_process, peak_memory_mb, write
from quality import Judge, as_product, one_pass, reference_judge, region, shown, truth_judge

from ptycho_adapters.ptychi.engines import RefineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from quality import ProbeChoice

    from ptycho_core.config.execution import Precision
    from ptycho_core.measurement.scan import Scan

_LOOK_AT = (1, 2, 3, 4, 6, 8, 10, 12, 14, 18, 22, 26, 30, 36, 44, 52, 60, 80, 100, 120)


@attrs.frozen(kw_only=True)
class Task:
    """What is reconstructed and by what it is judged."""

    scan: Path
    reference: Path | None
    probe: Path | None
    margin_px: int
    region_px: tuple[int, int, int, int] | None
    threads: int

    def load(self) -> tuple[Scan, Judge]:
        """Read the scan, with the probe of another file where one is given, and what judges it."""
        from ptycho_adapters.files import read_scan  # noqa: PLC0415

        scan = read_scan(self.scan)
        judge = (
            truth_judge(scan, margin_px=self.margin_px)
            if self.reference is None
            else reference_judge(scan, self.reference, margin_px=self.margin_px, region_px=self.region_px)
        )
        if self.probe is not None:
            with np.load(self.probe) as file:
                probe = np.asarray(file["probe" if "probe" in file else "probeGuess"])
            scan = attrs.evolve(scan, probe=probe.reshape(-1, scan.N, scan.N))
        return scan, judge


def ours(*, task: Task, archive: Path, repeats: int, precision: Precision, probe: ProbeChoice) -> Figures:
    """Reconstruct and write a product, with a model that is in memory."""
    import torch  # noqa: PLC0415 - in the fresh process only

    lsqml.mend_torchvision()
    from ptycho_adapters.files import write_product  # noqa: PLC0415
    from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415

    torch.set_num_threads(task.threads)
    started = time.perf_counter()
    model = load_archive(archive)
    loaded = time.perf_counter() - started
    scan, judge = task.load()
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            started = time.perf_counter()
            result, _ = one_pass(model, scan, precision=precision, probe=probe)
            write_product(as_product(result, scan), Path(folder) / "object.h5")
            seconds.append(time.perf_counter() - started)
    return {
        "who": "ours",
        "architecture": model.payload.pt_model_config.architecture,
        "precision": precision,
        "probe_source": result.probe_source,
        "patterns": scan.n_patterns,
        "load_s": loaded,
        "first_call_s": seconds[0],
        "seconds": min(seconds),
        "peak_memory_mb": peak_memory_mb(),
        "scores": judge.scores(result.object, result.origin_px),
        "object": result.object,
        "mask": judge.mask(result.object.shape, result.origin_px),
    }


def solver(*, task: Task, epochs: int, settings: RefineSettings) -> Figures:
    """Run the solver and score it after some of its epochs."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(task.threads)
    scan, judge = task.load()
    rows: list[Figures] = []
    for epoch in lsqml.solve(scan, settings, epochs):
        if epoch.number in _LOOK_AT or epoch.number == epochs:
            scores = judge.scores(epoch.object, epoch.origin_px)
            rows.append({"epoch": epoch.number, "seconds": epoch.seconds, "scores": scores})
    return {
        "who": f"LSQ-ML, {settings.noise_model}, pty-chi {lsqml.version()}",
        "settings": attrs.asdict(settings),
        "patterns": scan.n_patterns,
        "seconds": epoch.seconds,
        "seconds_per_epoch": epoch.seconds / epoch.number,
        "peak_memory_mb": peak_memory_mb(),
        "epochs": rows,
        "object": epoch.object,
        "mask": judge.mask(epoch.object.shape, epoch.origin_px),
    }


def seconds_to(rows: Sequence[Figures], name: str, value: float) -> float | None:
    """Seconds at which the solver's figure first reaches a value, linear between looks; None if it never does."""
    seconds = [float(row["seconds"]) for row in rows]
    figures = [row["scores"][name] for row in rows]
    for i, figure in enumerate(figures):
        if figure >= value:
            if i == 0:
                return seconds[0]
            part = (value - figures[i - 1]) / (figure - figures[i - 1])
            return seconds[i - 1] + part * (seconds[i] - seconds[i - 1])
    return None


def comparison(one: Figures, other: Figures) -> Figures:
    """How many times faster the one pass is."""
    mine = float(one["seconds"])
    result: Figures = {"times_faster_than_all_epochs": float(other["seconds"]) / mine}
    for name in ("phase_correlation", "phase_frc50_per_px", "phase_ssim"):
        needed = seconds_to(other["epochs"], name, one["scores"][name])
        result[f"solver_seconds_to_our_{name}"] = needed
        result[f"times_faster_to_our_{name}"] = None if needed is None else needed / mine
    return result


def _phase(case: Figures) -> NDArray[np.floating]:
    """Take the images out of a case: the phase where it is judged, the mean elsewhere, cut to that area."""
    object_, mask = case.pop("object"), case.pop("mask")
    phase = np.angle(object_ * np.exp(-1j * np.angle(object_[mask].mean())))
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return np.where(mask, phase, 0.0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def main() -> None:
    """Run both, each in a process of its own, and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, required=True, help="scan file")
    parser.add_argument("--reference", type=Path, help="object to judge by; without it, the scan's own true object")
    parser.add_argument("--probe", type=Path, help="NPZ with another probe for both (`probe` or `probeGuess`)")
    parser.add_argument("--archive", type=Path, required=True, help="our trained model")
    parser.add_argument("--epochs", type=int, default=44, help="of the solver; 44 are converged on the Siemens star")
    parser.add_argument("--noise-model", choices=["gaussian", "poisson"], default="gaussian")
    parser.add_argument("--batch-size", type=int, default=50, help="of the solver")
    parser.add_argument("--margin-px", type=int, default=8, help="rim of the lit area that is not judged")
    parser.add_argument("--region", type=region, metavar="Y0:Y1,X0:X1", help="judge this part only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", choices=["auto", "32-true", "bf16-mixed"])
    parser.add_argument(
        "--our-probe",
        default="model",
        choices=["model", "scan", "auto"],
        help="probe of our pass: the model's refined one, the scan's own, or the better fitting one",
    )
    parser.add_argument("--repeats", type=int, default=5, help="of our pass; the fastest counts")
    asked = parser.parse_args()
    lsqml.require_solver()
    task = Task(
        scan=asked.scan,
        reference=asked.reference,
        probe=asked.probe,
        margin_px=asked.margin_px,
        region_px=asked.region,
        threads=asked.threads,
    )
    one = in_fresh_process(
        ours,
        {
            "task": task,
            "archive": asked.archive,
            "repeats": asked.repeats,
            "precision": asked.precision,
            "probe": asked.our_probe,
        },
    )
    print(f"ours: {one['seconds']:.3f} s  {shown(one['scores'])}")
    settings = RefineSettings(noise_model=asked.noise_model, batch_size=asked.batch_size)
    other = in_fresh_process(solver, {"task": task, "epochs": asked.epochs, "settings": settings})
    images = {"ours, phase": _phase(one), f"LSQ-ML after {asked.epochs} epochs, phase": _phase(other)}
    write("against_solver", [{**one, "threads": asked.threads}, other, comparison(one, other)])
    seconds = [float(row["seconds"]) for row in other["epochs"]]
    panels = [
        Panel(
            title=f"{asked.scan.name}, {asked.threads} threads",
            x="seconds",
            y=label,
            x_scale="log",
            lines={
                "LSQ-ML": (seconds, [row["scores"][name] for row in other["epochs"]]),
                "ours": ([float(one["seconds"])], [one["scores"][name]]),
            },
        )
        for name, label in (
            ("phase_correlation", "phase correlation"),
            ("phase_frc50_per_px", "phase FRC50 [1/px]"),
            ("phase_ssim", "phase SSIM"),
        )
    ]
    draw("against_solver", panels, images)


if __name__ == "__main__":
    main()
