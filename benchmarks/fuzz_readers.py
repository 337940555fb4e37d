"""Damaged files through every reader: `nice -n 19 python benchmarks/fuzz_readers.py --files 20000 [--help]`.

A valid file of each format is damaged at random, seeded, and read in a process of its own under limits. Only
ScanFileError may come out; a reader may take 2 s of processor time and, beside its start, four times the file in
memory, and it must not write, crash or hang. What breaks a rule is kept with `--keep FOLDER`, and its number repeats
it: `--first NUMBER --files 1`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from fuzz_mutations import damaged
from fuzz_samples import Sample, lay_out, samples
from harness import Figures, write

from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_SECONDS = 2.0
MOST_TIMES_THE_FILE = 4
# What Python and libhdf5 allocate by themselves: modules, arenas, a chunk cache.
SLACK_BYTES = 12 << 20
_HARD_SECONDS = 10.0
_POLL_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 600.0
_HARD_BYTES = 512 << 20


def main() -> int:
    """Damage, read, and report; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="number of damaged files (20000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all damage (0)")
    parser.add_argument("--only", default="", help="only samples whose name contains this")
    parser.add_argument("--keep", type=Path, help="folder for the files that break a rule")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_cases(options)
        return 0
    started = time.perf_counter()
    outcomes = list(supervise(options))
    report = summary(outcomes, time.perf_counter() - started, options)
    write("fuzz_readers", [report])
    return 1 if report["broken_rules"] else 0


def supervise(options: argparse.Namespace) -> Iterator[Figures]:
    """Run all cases, in a new process after each that took its process down or would not end."""
    first, last = options.first, options.first + options.files
    while first < last:
        for outcome in _one_process(options, first, last):
            first = int(str(outcome["number"])) + 1
            yield outcome


def _one_process(options: argparse.Namespace, first: int, last: int) -> Iterator[Figures]:
    command = [sys.executable, __file__, "--child", "--first", str(first), "--files", str(last - first)]
    command += ["--seed", str(options.seed), "--only", options.only]
    command += ["--keep", str(options.keep.resolve())] if options.keep else []
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env={**os.environ, "TMPDIR": folder}) as child,
    ):
        assert child.stdout is not None
        begun: Figures | None = None
        while True:
            ready = _has_line(child, child.stdout)
            line = child.stdout.readline() if ready else b""
            if not line:
                child.kill()
                break
            message: Figures = json.loads(line)
            begun = message if message["outcome"] == "begun" else None
            if begun is None:
                yield message
        if begun is not None:
            ending = "hang" if not ready else f"crash ({child.wait()})"
            yield {**begun, "outcome": ending, "broken": ending}


def _has_line(child: subprocess.Popen[bytes], stream: IO[bytes]) -> bool:
    """Wait for the next line; False when the process works, or waits, for far too long without one.

    On a busy machine a process may not run for a while: what counts is the time that it had.
    """
    before, waited = _processor_seconds(child.pid), 0.0
    while not select.select([stream], [], [], _POLL_SECONDS)[0]:
        waited += _POLL_SECONDS
        if _processor_seconds(child.pid) - before > _HARD_SECONDS or waited > _LONGEST_WAIT_SECONDS:
            return False
    return True


def _processor_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_cases(options: argparse.Namespace) -> None:
    """Read damaged files one after the other, telling of each before and after."""
    home = Path(tempfile.gettempdir())
    scratch = home / "samples"
    scratch.mkdir()
    everything = samples(scratch)
    chosen = [sample for sample in everything if options.only in sample.name]
    others = [content for sample in everything for content in sample.files.values()]
    folders = {sample.name: home / f"case {place}" for place, sample in enumerate(chosen)}
    targets = {sample.name: lay_out(sample, folders[sample.name]) for sample in chosen}
    warnings.simplefilter("ignore")
    logging.disable()
    _limit_memory()
    for number in range(options.first, options.first + options.files):
        sample = chosen[number % len(chosen)]
        content = damaged(sample.files[sample.target], others, np.random.default_rng((options.seed, number)))
        about: Figures = {"number": number, "sample": sample.name, "bytes": len(content)}
        _tell({**about, "outcome": "begun"})
        targets[sample.name].write_bytes(content)
        result = _case(sample, folders[sample.name], targets[sample.name], content)
        if result["broken"] and options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{number} {sample.target}").write_bytes(content)
        _tell({**about, **result})


def _case(sample: Sample, folder: Path, target: Path, content: bytes) -> Figures:
    """Read one damaged file and measure."""
    before = sorted(folder.rglob("*"))
    resident = _reset_peak()
    wall, processor = time.perf_counter(), time.process_time()
    outcome, broken = "read", ""
    try:
        sample.read(folder)
    except ScanFileError:
        outcome = "refused"
    except BaseException as error:  # noqa: BLE001 - whatever comes out is the finding
        outcome = broken = f"{type(error).__name__}: {error}"
        traceback.print_exc(limit=-3)
    seconds, elapsed = time.process_time() - processor, time.perf_counter() - wall
    grown = max(_peak() - resident, 0)
    if not broken and seconds > MOST_SECONDS:
        broken = f"{seconds:.1f} s"
    if not broken and grown > MOST_TIMES_THE_FILE * len(content) + SLACK_BYTES:
        broken = f"{grown} bytes for a file of {len(content)}"
    if not broken and (sorted(folder.rglob("*")) != before or target.read_bytes() != content):
        broken = "wrote a file"
    return {"outcome": outcome, "broken": broken, "seconds": seconds, "elapsed": elapsed, "grown": grown}


def _tell(message: Figures) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _limit_memory() -> None:
    """Keep an accident from taking the machine: no more address space than a good deal beyond the present."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + _HARD_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reset_peak() -> int:
    """Start to measure the peak anew, and return the resident size."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def summary(outcomes: list[Figures], seconds: float, options: argparse.Namespace) -> Figures:
    """What all files together came to."""
    read = Counter(str(outcome["sample"]) for outcome in outcomes if outcome["outcome"] == "read")
    all_of = Counter(str(outcome["sample"]) for outcome in outcomes)
    broken = [outcome for outcome in outcomes if outcome.get("broken")]
    measured = [outcome for outcome in outcomes if "seconds" in outcome]
    return {
        "files": len(outcomes),
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "read_in_spite_of_the_damage": sum(read.values()),
        "refused": sum(1 for outcome in outcomes if outcome["outcome"] == "refused"),
        "longest_processor_s": max((float(str(outcome["seconds"])) for outcome in measured), default=0.0),
        "longest_elapsed_s": max((float(str(outcome["elapsed"])) for outcome in measured), default=0.0),
        "largest_growth_bytes": max((int(str(outcome["grown"])) for outcome in measured), default=0),
        "samples": {name: {"files": all_of[name], "read": read[name]} for name in sorted(all_of)},
        "broken_rules": len(broken),
        "broken": broken[:50],
    }


if __name__ == "__main__":
    sys.exit(main())
