"""Time to import and to resolve a configuration: `python benchmarks/startup.py [--help]`.

Imports are timed in fresh interpreters, without the interpreter's own start; payloads on a scan file in a temporary
folder.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path

from harness import Figures, write

_IMPORT = "import sys, time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t, *sys.modules)"
_HEAVY = ("torch", "lightning", "tensorflow", "scipy", "skimage", "matplotlib")


def importing(module: str, repeats: int) -> Figures:
    """Import a module in fresh interpreters."""
    seconds, loaded = [], set[str]()
    for _ in range(repeats):
        command = [sys.executable, "-c", _IMPORT.format(module)]
        first, *names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        seconds.append(float(first))
        loaded |= {*names}
    heavy = sorted(loaded & {*_HEAVY})
    return {"import": module, "median_s": statistics.median(seconds), "least_s": min(seconds), "also_loads": heavy}


def resolving(repeats: int) -> Figures:
    """Create a training payload from a scan file."""
    from ptycho_adapters.factory import create_training_payload  # noqa: PLC0415 - not to count among the imports
    from ptycho_adapters.files import write_scan  # noqa: PLC0415
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scan.npz"
        write_scan(simulate(SimulationConfig(object_size_px=128)), file)

        def create() -> object:
            return create_training_payload(file, folder, {"n_groups": 64})

        create()
        seconds = timeit.repeat(create, number=1, repeat=repeats)
    heavy = sorted(sys.modules.keys() & {"torch", "tensorflow"})
    return {
        "call": "create_training_payload",
        "median_s": statistics.median(seconds),
        "least_s": min(seconds),
        "also_loads": heavy,
    }


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    modules = ("ptycho_core", "ptycho_adapters", "ptycho_adapters.factory", "ptycho_adapters.torch_backend")
    write("startup", [*(importing(module, repeats) for module in modules), resolving(10 * repeats)])


if __name__ == "__main__":
    main()
