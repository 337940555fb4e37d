"""Kill runs at random moments, start them again, and look whether anything is lost: a table, and an exit code.

A run is a process group that gets SIGKILL. It is a child that is forked from a process which has everything imported,
so that the moments fall into the work and not into the imports; with `--cold` it is a program started anew. Half of the
moments are drawn over the life of a run, half wait from there for a file that is being written.

    python benchmarks/kills.py --kills 200 --seed 0
    python benchmarks/kills.py --kills 20 --only train --cold
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import h5py
import matplotlib.image
import numpy as np
import tifffile
from tqdm import tqdm

from ptycho_adapters import cli
from ptycho_adapters.files import write_scan
from ptycho_adapters.torch_backend import load_archive
from ptycho_adapters.torch_backend.training.checkpoint_io import read_checkpoint
from ptycho_adapters.torch_backend.training.checkpoints import TOLD
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]

_ROW = "{:<12}{:>7}{:>10}{:>10}{:>10}{:>10}  {}"
_MOST_WAITED_S = 600.0
_POLL_S = 0.0005
_SMALL = shlex.split(
    "--n-groups 6 --gridsize 1 --batch-size 2 --epochs 5 --architecture unet --n-filters-scale 1 --probe-rounds 0 "
    "--scheduler CosineAnnealing --accelerator cpu"
)


@attrs.frozen(kw_only=True)
class Case:
    """A command that is killed and started again.

    Attributes:
        name: of the command.
        line: arguments, for an output folder.
        result: what the run has come to, read from that folder.
    """

    name: str
    line: Callable[[Path], Sequence[str]]
    result: Callable[[Path], Arrays]


@attrs.define
class Tally:
    """What came of a case."""

    kills: int = 0
    writing: int = 0
    ended: int = 0
    restarts: int = 0
    faults: list[str] = attrs.field(factory=list)


class Run:
    """A run of the command line in a process group of its own."""

    def __init__(self, line: Sequence[str], log: Path, *, cold: bool) -> None:
        self._log = log
        if cold:
            with log.open("wb") as stream:
                command = [sys.executable, "-m", "ptycho_adapters.cli", *line]
                self._process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
            self.pid = self._process.pid
        else:
            self.pid = os.fork() or self._child(line)
        self._code: int | None = None

    def _child(self, line: Sequence[str]) -> int:
        os.setsid()
        stream = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(stream, descriptor)
        code = 70
        try:
            code = cli.main(line)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        until = time.monotonic() + _MOST_WAITED_S
        while not self.ended and time.monotonic() < until:
            time.sleep(0.005)
        if self._code is None:
            self.kill()
            return -1
        return self._code

    def kill(self) -> bool:
        """Kill all of its processes; False where it was over already."""
        if self.ended:
            return False
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not come to have a group yet
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        return self._code == -signal.SIGKILL

    @property
    def said(self) -> str:
        """What it wrote, from its end."""
        return " ".join(self._log.read_text(errors="replace").split())[-400:]


def _partials(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial")) if folder.exists() else []


def _kill_at_random(run: Run, folder: Path, life_s: float, draw: random.Random) -> tuple[bool, bool]:
    """Kill a run; gives whether it was still alive, and whether it was writing a file."""
    began = time.monotonic()
    moment_s = draw.uniform(0.0, life_s)
    writes = draw.random() < 0.5
    while time.monotonic() - began < moment_s and not run.ended:
        time.sleep(_POLL_S)
    while writes and not run.ended and not _partials(folder):
        time.sleep(_POLL_S)
    killed = run.kill()
    return killed, killed and bool(_partials(folder))


# What may be wrong after a restart ------------------------------------------------------------------------------------


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path) as members:
        if members.testzip() is not None:
            raise ValueError("a member does not match its checksum")
    load_archive(path)


def _hdf5(path: Path) -> None:
    def read(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            np.asarray(item[()])

    with h5py.File(path) as file:
        file.visititems(read)


def _npz(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            file[name]


def _page(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it has no end")


# What reads all of a file, or fails. Logs of Lightning grow line by line.
_OPENS: dict[str, Callable[[Path], object]] = {
    ".zip": _archive,
    ".ckpt": read_checkpoint,
    ".h5": _hdf5,
    ".npz": _npz,
    ".png": matplotlib.image.imread,
    ".tif": tifffile.imread,
    ".json": lambda path: json.loads(path.read_text()),
    ".html": _page,
    ".csv": Path.read_text,
    ".yaml": Path.read_text,
}


def _epochs_done(folder: Path) -> int:
    """Epochs that the checkpoints in a folder have behind them."""
    done = 0
    for path in (folder / "checkpoints").glob("*.ckpt"):
        content = read_checkpoint(path)
        done = max(done, int(content["epoch"]) + (0 if content[TOLD]["batches"] else 1))
    return done


def _epochs_trained(folder: Path) -> list[int]:
    """Epochs that the newest log in a folder has steps of."""
    logs = sorted(folder.glob("lightning_logs/version_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    if not logs or not (logs[-1] / "metrics.csv").exists():
        return []
    with (logs[-1] / "metrics.csv").open(newline="") as stream:
        return [int(row["epoch"]) for row in csv.DictReader(stream) if row.get("epoch")]


def _faults(case: Case, folder: Path, wanted: Arrays) -> list[str]:
    """Say what is wrong with a folder after a run that came to its end."""
    found = [f"left: {path.name}" for path in _partials(folder.parent)]
    for path in sorted(folder.parent.rglob("*")):
        if not path.is_file() or path.suffix in {".partial", ".log"}:
            continue
        try:
            _OPENS[path.suffix](path)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is not whole
            found.append(f"{path.relative_to(folder.parent)}: {error}")
    if found:
        return found
    result = case.result(folder)
    if result.keys() != wanted.keys():
        return [f"other parts: {sorted(result.keys() ^ wanted.keys())}"]
    return [f"{name} differs" for name, value in wanted.items() if not np.array_equal(result[name], value)]


# Cases ----------------------------------------------------------------------------------------------------------------


def _model(folder: Path) -> Arrays:
    model = load_archive(folder)
    arrays: dict[str, NDArray[np.generic]] = {k: v.numpy() for k, v in model.generator.state_dict().items()}
    arrays["history"] = np.array([(row.epoch, row.train, row.validation, row.steps) for row in model.history], float)
    arrays["steps"] = np.array([(row.step, row.train) for row in model.step_losses])
    return arrays | {f"probe {number}": each.probe for number, each in enumerate(model.probes)}


def _product(folder: Path) -> Arrays:
    (path,) = folder.rglob("*.h5")
    arrays: dict[str, NDArray[np.generic]] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and np.asarray(item[()]).dtype.kind in "fciu":
            arrays[name] = np.asarray(item[()])

    with h5py.File(path) as file:
        file.visititems(take)
    return arrays


def _prepared(folder: Path) -> Arrays:
    with np.load(folder / "scan.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != "_metadata"}


def _materials(folder: Path) -> None:
    """Write the scans, the raw frames and the model that the cases read."""
    scan = simulate(SimulationConfig(object_size_px=100, step_px=9.0, jitter_px=1.0, photons=1e5))
    write_scan(scan, folder / "scan.npz")
    frames = np.zeros((scan.n_patterns, 90, 110), dtype=scan.patterns.dtype)
    frames[:, 10:74, 30:94] = scan.patterns
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("entry/data/data", data=frames, chunks=(3, 90, 110), compression="gzip")
        file["motors/y"], file["motors/x"] = scan.positions_px.T * 0.01
    with h5py.File(folder / "stream.h5", "w", libver="latest") as file:
        file["entry/data/data"] = scan.patterns
    line = ["train", "--train-data-file", str(folder / "scan.npz"), "--output-dir", str(folder / "model"), "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main([*line, *_SMALL])
    if code != 0:
        raise SystemExit("no model to go on with")


def _cases(inputs: Path) -> tuple[Case, ...]:
    scan, cpu = str(inputs / "scan.npz"), ["--accelerator", "cpu"]
    lengths = shlex.split(
        "--energy-ev 8000 --distance-m 2 --detector-pixel-m 75e-6 --columns motors/x,motors/y --unit um"
    )
    raw = str(inputs / "raw.h5")
    out = "--output-dir"
    bare = shlex.split("--no-probe-autofocus --probe-rounds 0 --no-beam-search --position-refinement none")
    bare += ["--probe-search", "never", "--orientation-search", "never", "--model-path", str(inputs / "model"), *cpu]
    return (
        Case(
            name="train",
            line=lambda f: [
                "train",
                "--train-data-file",
                scan,
                out,
                str(f),
                "--resume",
                "auto",
                "--checkpoint-every-s",
                "0",
                *_SMALL,
            ],
            result=_model,
        ),
        Case(name="infer", line=lambda f: ["infer", "--test-data-file", scan, out, str(f), *bare], result=_product),
        Case(
            name="reconstruct",
            line=lambda f: ["reconstruct", scan, out, str(f), *bare, "--finish", "4", "--no-error-bars"],
            result=_product,
        ),
        Case(
            name="prepare",
            line=lambda f: ["prepare", raw, str(f / "scan.npz"), "--positions", raw, *lengths, "--size", "64"],
            result=_prepared,
        ),
        Case(
            name="live",
            line=lambda f: ["live", str(inputs / "stream.h5"), "--like", scan, out, str(f), *bare],
            result=_product,
        ),
    )


@attrs.define
class Trials:
    """The trials of a case.

    Attributes:
        case: the command.
        folder: for what they write.
        draw: the moments.
        cold: whether a program is started anew for each run.
        kept: where to leave what a trial with a fault wrote, or None.
        tally: what came of them.
        life_s: how long a run takes that is not killed.
    """

    case: Case
    folder: Path
    draw: random.Random
    cold: bool
    kept: Path | None
    tally: Tally = attrs.field(factory=Tally)
    life_s: float = 0.0
    _wanted: Arrays = attrs.field(factory=dict)

    def run(self, kills: int) -> None:
        """Run the case without a kill, then as many trials as it takes."""
        if not self.cold:  # here, so that what it imports is there for those that are forked
            (self.folder / "here").mkdir(parents=True)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                cli.main(self.case.line(self.folder / "here"))
        began = time.monotonic()
        whole = self._started("whole")
        if whole.wait() != 0:
            raise SystemExit(f"{self.case.name} does not run at all: {whole.said}")
        self.life_s = time.monotonic() - began
        self._wanted = self.case.result(self.folder / "whole" / "out")
        number = 0
        while self.tally.kills < kills:
            name, before = f"{self.case.name}-{number}", len(self.tally.faults)
            self._trial(name, min(kills - self.tally.kills, self.draw.randint(1, 3)))
            if len(self.tally.faults) > before and self.kept is not None:
                shutil.copytree(self.folder / name, self.kept / name, dirs_exist_ok=True)
            shutil.rmtree(self.folder / name)
            number += 1

    def _started(self, name: str) -> Run:
        folder = self.folder / name
        (folder / "out").mkdir(parents=True, exist_ok=True)
        return Run(self.case.line(folder / "out"), folder / "run.log", cold=self.cold)

    def _trial(self, name: str, kills: int) -> None:
        """Kill a run some times, each time where the one before left it; then let it come to its end."""
        tally, out = self.tally, self.folder / name / "out"
        for _ in range(kills):
            run = self._started(name)
            killed, wrote = _kill_at_random(run, out, self.life_s, self.draw)
            tally.kills += killed
            tally.writing += wrote
            tally.ended += not killed
            if not killed and run.wait() != 0:
                tally.faults.append(f"{name}: a start failed: {run.said}")
                return
        done = _epochs_done(out)
        tally.restarts += 1
        last = self._started(name)
        if last.wait() != 0:
            tally.faults.append(f"{name}: the restart failed: {last.said}")
            return
        again = sorted({epoch for epoch in _epochs_trained(out) if epoch < done})
        if self.case.name == "train" and again:
            tally.faults.append(f"{name}: {done} epochs were finished, and {again} trained again")
        tally.faults += [f"{name}: {fault}" for fault in _faults(self.case, out, self._wanted)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; gives 0 where nothing was lost, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--only", metavar="A,B", help="commands (default: all)")
    parser.add_argument("--cold", action="store_true", help="start a program anew for each run, imports included")
    parser.add_argument("--keep", metavar="FOLDER", help="where to leave the folders of trials with faults")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ptycho-kills-") as scratch:
        root = Path(scratch)
        _materials(root)
        cases = [case for case in _cases(root) if given.only is None or case.name in given.only.split(",")]
        print(_ROW.format("command", "kills", "writing", "over", "restarts", "faults", "seconds of a run"))
        tallies: list[Tally] = []
        for number, case in enumerate(cases):
            folder, draw = root / case.name, random.Random(f"{given.seed} {case.name}")
            kept = None if given.keep is None else Path(given.keep)
            trials = Trials(case=case, folder=folder, draw=draw, cold=given.cold, kept=kept)
            trials.run(given.kills * (number + 1) // len(cases) - given.kills * number // len(cases))
            tally = trials.tally
            figures = (tally.kills, tally.writing, tally.ended, tally.restarts, len(tally.faults))
            print(_ROW.format(case.name, *figures, f"{trials.life_s:.1f}"), flush=True)
            tallies.append(tally)
    print(f"{sum(tally.kills for tally in tallies)} kills")
    faults = [fault for tally in tallies for fault in tally.faults]
    print("\n".join(faults) or "nothing was lost")
    return 1 if faults else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tqdm.monitor_interval = 0  # a thread does not survive a fork, and its locks stay taken
    sys.exit(main())
