"""Scans larger than memory: `python benchmarks/large_scan.py make|stages|infer|train|curve [--help]`.

`make` writes an HDF5 scan of any size. Its object repeats itself, so that the expected counts of one period of
positions are those of all; every frame has Poisson noise of its own, or one of some draws for its place (`--draws`).
Positions are a raster on whole pixels, to be gone through several times where `--passes` says so.

`infer` and `train` run in a process of their own that says what memory it took: anonymous memory, which nothing can
take back, and the pages of files apart from it, at the peak and after the framework was imported; and processor time.

`curve` makes scans of several sizes, one after the other, reconstructs each from its file, and draws memory and time
over their number of patterns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLES_PER_S = 20.0
_PERIOD = 24  # positions along either axis until the object repeats itself


def make(path: Path, asked: argparse.Namespace) -> None:
    """Write a scan in the layout of a Ptychodus training file."""
    import attrs  # noqa: PLC0415

    from ptycho_adapters.files import write_scan  # noqa: PLC0415 - the parser is quick without
    from ptycho_core.measurement.scan import ScanMetadata  # noqa: PLC0415
    from ptycho_core.physics.subpixel import scan_counts  # noqa: PLC0415
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    side = asked.step * _PERIOD
    small = simulate(
        SimulationConfig(N=asked.size, object_size_px=max(side, asked.size + 40), photons=asked.photons, jitter_px=1.0)
    )
    assert small.object is not None
    copies = -(-(side + asked.size) // side)
    whole = np.tile(small.object[:side, :side], (copies, copies))
    centre = (asked.size - 1) / 2
    grid = np.stack(np.mgrid[:_PERIOD, :_PERIOD], axis=-1).reshape(-1, 2) * asked.step + centre
    expected = (
        scan_counts(whole, small.probe, grid).astype(np.float32).reshape(_PERIOD, _PERIOD, asked.size, asked.size)
    )
    rows, columns = _raster(asked.patterns // asked.passes)
    positions = np.stack(np.mgrid[:rows, :columns], axis=-1).reshape(-1, 2) * float(asked.step) + centre
    positions = np.tile(positions, (asked.passes, 1))
    lengths = ScanMetadata(pixel_size_m=1e-8, wavelength_m=1e-10, distance_m=1.0, name=path.stem)
    start = attrs.evolve(small, metadata=lengths, object=None).subset(np.arange(4))
    write_scan(start, path)
    rng = np.random.default_rng(1)
    draws = _draws(expected, asked.draws, rng)
    with h5py.File(path, "r+") as file:
        del file["patterns"]
        storage = {"chunks": (asked.chunk, asked.size, asked.size)} if asked.chunk else {}
        if asked.compression != "none":
            storage |= {"compression": asked.compression, "shuffle": True}
        stack = file.create_dataset("patterns", (len(positions), asked.size, asked.size), np.uint16, **storage)
        for first in range(0, len(positions), columns):
            row = first // columns % rows % _PERIOD
            at = np.arange(columns) % _PERIOD
            some = (
                rng.poisson(expected[row, at])
                if draws is None
                else draws[rng.integers(len(draws), size=columns), row, at]
            )
            stack[first : first + columns] = some.astype(np.uint16)
        for name in ("probe_position_x_px", "probe_position_y_px", "ptycho_core/positions_px"):
            del file[name]
        file["ptycho_core/positions_px"] = positions
        file["probe_position_y_px"], file["probe_position_x_px"] = positions.T
    print(json.dumps({"patterns": len(positions), "gigabytes": path.stat().st_size / 1e9}))


def _raster(patterns: int) -> tuple[int, int]:
    """Rows and columns of about so many positions, near a square."""
    rows = max(2, round(patterns**0.5))
    return rows, max(2, round(patterns / rows))


def _draws(expected: NDArray[np.float32], number: int, rng: np.random.Generator) -> NDArray[np.uint16] | None:
    """Give a number of noisy frames for each place in the period; None where every frame is drawn by itself."""
    return np.stack([rng.poisson(expected).astype(np.uint16) for _ in range(number)]) if number else None


def measured(command: list[str], log: Path | None) -> dict[str, object]:
    """Run a command of `ptycho` in a process of its own and say what it took."""
    before = os.times()
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", _CHILD, *command], stdout=subprocess.PIPE, text=True) as child:
        out, _ = child.communicate()
    after = os.times()
    if log is not None:
        log.write_text(out)
    figures = json.loads(out.splitlines()[-1]) if child.returncode == 0 else {}
    return figures | {
        "code": child.returncode,
        "wall_s": time.perf_counter() - started,
        "processor_s": after.children_user + after.children_system - before.children_user - before.children_system,
    }


_CHILD = f"""
import json, sys, threading, time
def sizes():
    found = {{}}
    for line in open("/proc/self/status"):
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile", "VmHWM", "VmRSS"):
            found[name] = int(value.split()[0]) / 1e6
    return found
import torch, lightning, h5py, scipy.ndimage, scipy.spatial, matplotlib.figure
import ptycho_adapters.torch_backend
from ptycho_adapters.cli import main
start, peak, over = sizes(), {{}}, threading.Event()
def watch():
    while not over.is_set():
        for name, value in sizes().items():
            peak[name] = max(value, peak.get(name, 0.0))
        time.sleep({1 / _SAMPLES_PER_S})
thread = threading.Thread(target=watch, daemon=True)
thread.start()
code = main(sys.argv[1:])
over.set(); thread.join()
print()
print(json.dumps({{"after_import_gb": start, "peak_gb": peak,
    "anonymous_beyond_import_gb": peak["RssAnon"] - start["RssAnon"], "exit": code}}))
sys.exit(code)
"""


_STAGES = """
import json, sys, threading, time
from pathlib import Path
import torch, lightning, h5py, scipy.ndimage, scipy.spatial
import ptycho_adapters.torch_backend as backend
from ptycho_adapters.factory import create_training_payload
from ptycho_adapters.files import open_scan
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
path, folder, groups, patterns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def anonymous():
    return next(int(line.split()[1]) / 1e6 for line in open("/proc/self/status") if line.startswith("RssAnon"))
start, peak, over, stages = anonymous(), [0.0], threading.Event(), {}
def watch():
    while not over.wait(0.05):
        peak[0] = max(peak[0], anonymous())
threading.Thread(target=watch, daemon=True).start()
def stage(name, work):
    peak[0], wall, used = 0.0, time.perf_counter(), time.process_time()
    result = work()
    took = {"anonymous_beyond_import_gb": max(peak[0], anonymous()) - start,
            "processor_s": time.process_time() - used, "wall_s": time.perf_counter() - wall}
    stages[name] = took
    print(name, took, file=sys.stderr, flush=True)
    return result
execution = PyTorchExecutionConfig(accelerator="cpu", num_threads=1, enable_progress_bar=False)
scan = stage("open and check", lambda: open_scan(path, detector_check="off"))
wanted = dict(n_groups=groups, gridsize=1, batch_size=1, epochs=1, validation_fraction=0.0, probe_rounds=0,
              probe_autofocus=False)
payload = create_training_payload(path, folder, wanted, execution)
model = stage("train", lambda: backend.train(payload, scan))
settings = TorchInferenceConfig(n_subsample=patterns or None, probe_rounds=0, beam_search=False)
result = stage("infer", lambda: backend.reconstruct(model, scan, execution_config=execution, inference_config=settings))
over.set()
print(json.dumps({"patterns": scan.n_patterns, "side_px": scan.N, "gigabytes": scan.patterns.nbytes / 1e9,
    "canvas_px": list(result.object.shape), "after_import_gb": start, "stages": stages,
    "training_steps": model.history[-1].steps, "inferred_patterns": len(result.pattern_indices)}))
"""


def staged(asked: argparse.Namespace) -> dict[str, object]:
    """Open a scan where it lies, train for some steps, reconstruct some of its patterns; say what each of it took."""
    command = [sys.executable, "-c", _STAGES, str(asked.file), asked.output_dir, str(asked.groups), str(asked.infer)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return figures


def curve(asked: argparse.Namespace) -> None:
    """Write `results/large_scan.json` and `.png`: memory and processor time of `ptycho infer` over sizes of scans."""
    import charts  # noqa: PLC0415 - draws
    import harness  # noqa: PLC0415 - the framework's versions

    rows: list[dict[str, object]] = []
    for patterns in asked.patterns:
        path = Path(asked.output_dir) / f"{patterns}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, argparse.Namespace(**{**vars(asked), "patterns": patterns}))
        flags = ["--patterns-in", "file", "--num-threads", "1", "--accelerator", "cpu", "--quiet"]
        out = str(path.with_suffix(""))
        figures = measured(["infer", "--test-data", str(path), "--output-dir", out, *flags], None)
        rows.append({"patterns": patterns, "scan_gb": path.stat().st_size / 1e9, **figures})
        print(json.dumps(rows[-1]), flush=True)
        path.unlink()
    harness.write("large_scan", rows)
    sizes = [float(str(row["patterns"])) for row in rows]
    lines = {
        "memory beyond the framework": [float(str(row["anonymous_beyond_import_gb"])) for row in rows],
        "patterns in their file": [float(str(row["scan_gb"])) for row in rows],
    }
    each_ms = [1e3 * float(str(row["processor_s"])) / size for row, size in zip(rows, sizes, strict=True)]
    memory = {name: (sizes, values) for name, values in lines.items()}
    charts.draw(
        "large_scan",
        [
            charts.Panel(title="Memory", x="patterns", y="GB", lines=memory, x_scale="log", y_scale="log"),
            charts.Panel(
                title="Processor time of a pattern, all in all",
                x="patterns",
                y="ms",
                lines={"one thread": (sizes, each_ms)},
                x_scale="log",
            ),
        ],
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="write a scan")
    making.add_argument("file", type=Path)
    making.add_argument("--patterns", type=int, default=10_000)
    drawing = verbs.add_parser("curve", help="memory and time over the number of patterns")
    drawing.add_argument("--patterns", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    drawing.add_argument("--output-dir", required=True)
    for each in (making, drawing):
        each.add_argument("--size", type=int, default=64, help="side of a pattern [px]")
        each.add_argument("--step", type=int, default=5, help="between positions [px]")
        each.add_argument("--passes", type=int, default=1, help="how often the raster is gone through")
        each.add_argument("--photons", type=float, default=1e5, help="of a frame")
        each.add_argument("--draws", type=int, default=0, help="noisy frames for each place; 0 draws every frame")
        each.add_argument("--chunk", type=int, default=0, help="frames in a chunk; 0 for a contiguous dataset")
        each.add_argument("--compression", default="none", choices=("none", "gzip", "lzf"))
    for verb in ("infer", "train"):
        running = verbs.add_parser(verb, help=f"measure `ptycho {verb}`; further flags are passed on")
        running.add_argument("file", type=Path)
        running.add_argument("--log", type=Path)
        running.add_argument("--output-dir", required=True)
    stages = verbs.add_parser("stages", help="open, train for some steps and reconstruct from Python, each measured")
    stages.add_argument("file", type=Path)
    stages.add_argument("--output-dir", required=True)
    stages.add_argument("--groups", type=int, default=24, help="patterns to train on, one in a step")
    stages.add_argument("--infer", type=int, default=0, help="patterns to reconstruct; 0 for all")
    asked, further = parser.parse_known_args()
    if asked.verb == "make":
        make(asked.file, asked)
        return
    if asked.verb == "curve":
        curve(asked)
        return
    if asked.verb == "stages":
        print(json.dumps(staged(asked) | {"load": os.getloadavg()}, indent=2))
        return
    source = "--test-data" if asked.verb == "infer" else "--train-data-file"
    command = [asked.verb, source, str(asked.file), "--output-dir", asked.output_dir, "--accelerator", "cpu", *further]
    figures = measured(command, asked.log)
    print(json.dumps({"command": ["ptycho", *command], "load": os.getloadavg(), **figures}, indent=2))


if __name__ == "__main__":
    main()
