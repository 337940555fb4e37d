"""Quality against training time: `python benchmarks/quality_time.py --help`.

Each budget is a training of its own, from scratch or from what `--set` says, whose schedule ends with the budget. The
trained model reconstructs the scan that it was trained on and, where there is one, another that it has never seen.
With a scan file and a reference the data are measured; without, two scans are simulated under one probe.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from charts import Panel, draw
from harness import Figures, in_fresh_process, peak_memory_mb, write
from quality import Judge, one_pass, reference_judge, region, shown, truth_judge

from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

_ENDLESS_EPOCHS = 100_000


@attrs.frozen(kw_only=True)
class Data:
    """Which scans, and by what they are judged.

    Attributes:
        train: scan file to train on; None to simulate.
        test: another scan file, never trained on.
        reference: object to judge both by.
        margin_px: rim of the lit area that is not judged.
        region_px: judge this part of the training scan only.
        simulation: the scan to train on, where none is given.
    """

    train: Path | None
    test: Path | None
    reference: Path | None
    margin_px: int
    region_px: tuple[int, int, int, int] | None
    simulation: SimulationConfig

    def load(self) -> dict[str, tuple[Scan, Judge]]:
        """Read or simulate the scans, that for the training first."""
        if self.train is None:
            unseen = attrs.evolve(self.simulation, object_kind="cells", seed=self.simulation.seed)
            scans = {"seen": simulate(self.simulation), "unseen": simulate(unseen)}
            return {name: (scan, truth_judge(scan)) for name, scan in scans.items()}
        from ptycho_adapters.files import read_scan  # noqa: PLC0415 - h5py

        files = {"seen": self.train} if self.test is None else {"seen": self.train, "unseen": self.test}
        result = {}
        for name, file in files.items():
            scan = read_scan(file)
            if self.reference is None:
                raise SystemExit("--train needs --reference")
            area = self.region_px if name == "seen" else None
            result[name] = scan, reference_judge(scan, self.reference, margin_px=self.margin_px, region_px=area)
        return result


def measure(*, data: Data, budget_s: int, overrides: dict[str, str], threads: int, precision: str) -> Figures:
    """Train for a time, reconstruct, score."""
    from ptycho_adapters.torch_backend import train  # noqa: PLC0415 - in the fresh process only
    from ptycho_core.config import PyTorchExecutionConfig  # noqa: PLC0415
    from ptycho_core.config.payload import ScanFacts, resolve_training  # noqa: PLC0415

    scans = data.load()
    scan, _ = scans["seen"]
    execution = PyTorchExecutionConfig(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        num_threads=threads,
        max_time=f"00:{budget_s // 3600:02}:{budget_s // 60 % 60:02}:{budget_s % 60:02}",
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger_backend=None,
    )
    with tempfile.TemporaryDirectory() as folder:
        facts = ScanFacts(path=data.train or Path("simulated.npz"), N=scan.N, n_patterns=scan.n_patterns)
        chosen = {"n_groups": scan.n_patterns, "epochs": _ENDLESS_EPOCHS, "validation_fraction": 0.0}
        typed = {name: _value(text) for name, text in overrides.items()}
        payload = resolve_training(facts, {**chosen, **typed}, execution, output_dir=Path(folder))
        started = time.perf_counter()
        model = train(payload, scan)
        seconds = time.perf_counter() - started
    results = {}
    for name, (each, judge) in scans.items():
        result, pass_s = one_pass(model, each, probe="model")
        results[name] = {
            "seconds": pass_s,
            "r_factor": result.metrics["r_factor"],
            "scores": judge.scores(result.object, result.origin_px),
        }
    return {
        "budget_s": budget_s,
        "train_s": seconds,
        "steps": model.history[-1].steps if model.history else 0,
        "epochs": len(model.history),
        "architecture": model.payload.pt_model_config.architecture,
        "threads": threads,
        "precision": precision,
        "peak_memory_mb": peak_memory_mb(),
        **results,
    }


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text, text)


def main() -> None:
    """Measure every budget in a process of its own and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="scan file to train on; without it, scans are simulated")
    parser.add_argument("--test", type=Path, help="another scan file, never trained on")
    parser.add_argument("--reference", type=Path, help="object to judge both by")
    parser.add_argument("--margin-px", type=int, default=8)
    parser.add_argument("--region", type=region, metavar="Y0:Y1,X0:X1", help="judge this part of the seen area only")
    parser.add_argument("--size", type=int, default=64, help="side of a simulated pattern [px]")
    parser.add_argument("--object-size", type=int, default=224, help="of the simulated objects [px]")
    parser.add_argument("--photons", type=float, default=1e6, help="of the simulated scans")
    parser.add_argument("--budgets", type=int, nargs="+", default=[30, 60, 120, 300, 900], help="seconds")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of a training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    asked = parser.parse_args()
    simulation = SimulationConfig(
        N=asked.size, object_size_px=asked.object_size, photons=asked.photons, step_px=asked.size / 10
    )
    data = Data(
        train=asked.train,
        test=asked.test,
        reference=asked.reference,
        margin_px=asked.margin_px,
        region_px=asked.region,
        simulation=simulation,
    )
    common = {"data": data, "overrides": dict(text.split("=", 1) for text in asked.set)}
    common |= {"threads": asked.threads, "precision": asked.precision}
    cases = []
    for budget_s in asked.budgets:
        case = in_fresh_process(measure, {**common, "budget_s": budget_s})
        for name in ("seen", "unseen"):
            if name in case:
                print(f"{budget_s} s, {name}: {shown(case[name]['scores'])}")
        cases.append(case)
    name = "quality_time" if asked.train is None else f"quality_time_{asked.train.stem}"
    write(name, cases)
    panels = [
        Panel(
            title=f"{asked.train.name if asked.train else 'simulated'}, {asked.threads} threads",
            x="training time [s]",
            y=figure,
            x_scale="log",
            lines={
                which: ([case["train_s"] for case in cases], [case[which]["scores"][figure] for case in cases])
                for which in ("seen", "unseen")
                if which in cases[0]
            },
        )
        for figure in ("phase_correlation", "phase_ssim", "phase_frc50_per_px")
    ]
    draw(name, panels)


if __name__ == "__main__":
    main()
