"""What the benchmarks share: a fresh process per case, peak memory, and a JSON file that says where it was measured."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Figures = dict[str, object]

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("ptycho-core", "torch", "lightning", "numpy", "scipy", "attrs", "cattrs")


def in_fresh_process(case: Callable[..., Figures], arguments: Mapping[str, object]) -> Figures:
    """Run a case in a process of its own, so that its memory and its threads are its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(case, kwds=dict(arguments))


def peak_memory_mb() -> float:
    """Largest resident size of this process so far [MB]."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def machine() -> Figures:
    """Describe the machine and the versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def write(name: str, cases: list[Figures]) -> Path:
    """Write the cases of a benchmark with the machine they were measured on, and print them."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    content = {
        "benchmark": name,
        "measured": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "machine": machine(),
        "cases": cases,
    }
    target.write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(cases, indent=2))
    print(f"written to {target}", file=sys.stderr)
    return target


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # as where the source is used in its place
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
