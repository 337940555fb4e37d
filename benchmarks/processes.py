"""What several processes on one run cost and change: processor seconds, bytes that are sent, rounding.

    python benchmarks/processes.py --processes 1 2 --batch-sizes 8 32 128

Processes start as `torchrun` starts them, on this machine's processor and with one thread each. Wall seconds say little
where other work runs beside; processor seconds of the busiest process are what an idle core would take. Rounding: how
far two processes are from one after the same steps in float32, beside how far one process is from itself when a single
weight begins one unit in the last place higher.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from harness import Figures, write
from lightning import Callback, LightningModule, Trainer
from torch import distributed

from ptycho_adapters.crew import started_crew
from ptycho_adapters.torch_backend import generalist_for, reconstruct, train
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.payload import ScanFacts, resolve_training
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

_WARM = 2  # steps that are not counted
_QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False, "logger_backend": None}


class Steps(Callback):
    """Takes down when each step ends, in seconds of the processor and of the wall.

    Args:
        nudge: raise one weight by a unit in its last place before the first step.
    """

    def __init__(self, *, nudge: bool = False) -> None:
        self.ends: list[tuple[float, float]] = []
        self.sent = 0
        self._nudge = nudge

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count what a step sends."""
        del trainer
        trained = [each for each in pl_module.parameters() if each.requires_grad]
        self.sent = sum(each.numel() * (8 if each.is_complex() else 4) for each in trained)
        if self._nudge:
            with torch.no_grad():
                first = next(iter(pl_module.parameters())).view(-1)
                first[0] = torch.nextafter(first[0], first[0] + 1)

    def on_train_batch_end(self, *_: object) -> None:
        """Look at both clocks."""
        self.ends.append((time.process_time(), time.perf_counter()))

    def per_step(self) -> tuple[float, float]:
        """Mean seconds of a step after the first few."""
        (cpu, wall), (cpu_end, wall_end) = self.ends[_WARM], self.ends[-1]
        n = len(self.ends) - 1 - _WARM
        return (cpu_end - cpu) / n, (wall_end - wall) / n


def scan_of(size_px: int, seed: int = 0) -> Scan:
    """A scan of 64 px patterns."""
    return simulate(SimulationConfig(object_size_px=size_px, step_px=6.0, jitter_px=1.0, photons=1e5, seed=seed))


def train_steps(case: Figures, folder: Path, steps: Steps) -> dict[str, torch.Tensor]:
    """Train for some steps and give the weights."""
    batch, count = int(str(case["batch_size"])), int(str(case["steps"]))
    settings: dict[str, object] = {
        "n_groups": batch * count,
        "gridsize": 2,
        "batch_size": batch,
        "epochs": 1,
        "learning_rate": float(str(case.get("learning_rate", 1e-4))),
        "validation_fraction": 0.0,
        "probe_autofocus": False,
        "probe_rounds": 0,
        "beam_search": False,
        "scheduler": "Default",
    }
    scans = [scan_of(int(str(case["object_px"])), seed) for seed in range(int(str(case.get("scans", 1))))]
    execution = PyTorchExecutionConfig(**_QUIET, devices=started_crew().count)  # type: ignore[arg-type]
    payload = resolve_training(ScanFacts(path=Path("scan.npz"), N=64), settings, execution, output_dir=folder)
    model = train(payload, scans, callbacks=[steps])
    return model.generator.state_dict()


def reconstruct_once(case: Figures) -> Figures:
    """Reconstruct with the shipped network; give what a pass costs and sends."""
    sent: list[int] = []
    own = distributed.all_reduce

    def counted(values: torch.Tensor) -> None:
        sent.append(values.numel() * values.element_size())
        own(values)

    distributed.all_reduce = counted
    scan = scan_of(int(str(case["object_px"])))
    execution = PyTorchExecutionConfig(**_QUIET, devices=started_crew().count)  # type: ignore[arg-type]
    settings = TorchInferenceConfig(probe_rounds=0, finish="none", beam_search=False, background_counts=0.0)
    model = generalist_for(scan)
    began = time.process_time()
    result = reconstruct(model, scan, execution_config=execution, inference_config=settings)
    return {
        "patterns": scan.n_patterns,
        "canvas_px": list(result.object.shape),
        "cpu_s": time.process_time() - began,
        "sent_bytes": sum(sent),
        "sums": len(sent),
    }


def work(case: Figures, folder: Path) -> None:
    """Do a case as one of its processes and leave figures and weights."""
    torch.set_num_threads(1)
    rank = started_crew().rank
    if case["kind"] == "reconstruct":
        found = reconstruct_once(case)
    else:
        steps = Steps(nudge=bool(case.get("nudge")))
        weights = train_steps(case, folder, steps)
        cpu, wall = steps.per_step()
        found = {"cpu_s": cpu, "wall_s": wall, "sent_bytes": steps.sent}
        torch.save(weights, folder / f"weights_{rank}.pt")
    (folder / f"figures_{rank}.json").write_text(json.dumps(found))


def in_processes(case: Figures, processes: int, folder: Path) -> list[Figures]:
    """Run a case in some processes; give the figures of each."""
    folder.mkdir()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-W", "ignore", __file__, "--work", json.dumps(case), "--folder", str(folder)]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    codes = [each.wait() for each in started]
    if any(codes):
        message = f"processes ended with {codes}"
        raise RuntimeError(message)
    return [json.loads((folder / f"figures_{rank}.json").read_text()) for rank in range(processes)]


def measured(case: Figures, processes: int, folder: Path) -> Figures:
    """One case in some processes as one line: the busiest process counts."""
    each = in_processes(case, processes, folder)
    busiest = max(float(str(one["cpu_s"])) for one in each)
    line: Figures = {**case, "processes": processes, **each[0], "cpu_s": busiest}
    if case["kind"] == "train":
        line["groups_per_cpu_s"] = int(str(case["batch_size"])) / busiest
    return line


def distance(one: Path, other: Path) -> float:
    """Largest relative distance of a weight tensor."""
    first, second = (torch.load(path / "weights_0.pt", weights_only=True) for path in (one, other))
    return max(float((second[name] - value).norm() / value.norm().clamp_min(1e-30)) for name, value in first.items())


def rounding(folder: Path, scans: int, steps: int) -> Figures:
    """How far two processes, and one with a nudged weight, end from one process, in float32."""
    case: Figures = {"kind": "train", "batch_size": 4, "steps": steps, "object_px": 130, "scans": scans}
    folder.mkdir()
    in_processes(case, 1, folder / "one")
    in_processes(case, 2, folder / "two")
    in_processes({**case, "nudge": True}, 1, folder / "nudged")
    return {
        **case,
        "kind": "rounding",
        "two_processes": distance(folder / "one", folder / "two"),
        "one_unit_in_the_last_place": distance(folder / "one", folder / "nudged"),
    }


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--object-px", type=int, nargs="+", default=[160, 256])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.work:
        work(json.loads(said.work), said.folder)
        return
    kinds: list[Figures] = [
        {"kind": "train", "batch_size": batch, "steps": said.steps, "object_px": said.object_px[0]}
        for batch in said.batch_sizes
    ]
    kinds += [{"kind": "reconstruct", "object_px": size} for size in said.object_px]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lines = [
            measured(case, processes, folder / f"{number}_{processes}")
            for number, case in enumerate(kinds)
            for processes in said.processes
        ]
        lines += [rounding(folder / f"rounding_{scans}", scans, 4 // scans) for scans in (1, 2)]
    write("processes", lines)


if __name__ == "__main__":
    main()
