"""LSQ-ML by pty-chi on one of our scans, epoch by epoch: the solver that the benchmarks stand beside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_adapters.ptychi.installation import mend_torchvision, require, version
from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.ptychi.engines import RefineSettings
    from ptycho_core.measurement.scan import Scan

__all__ = ["Epoch", "mend_torchvision", "require_solver", "solve", "version"]


@attrs.frozen(kw_only=True, eq=False)
class Epoch:
    """What the solver has after an epoch.

    Attributes:
        number: epochs done.
        seconds: time that these took, set-up of the solver included, from arrays in memory.
        object: (H, W) complex64.
        origin_px: (y, x) of pixel [0, 0].
        probe: (modes, N, N) complex64.
    """

    number: int
    seconds: float
    object: NDArray[np.complex64]
    origin_px: tuple[int, int]
    probe: NDArray[np.complex64]


def require_solver() -> None:
    """End the program with what to install where pty-chi is missing."""
    try:
        require()
    except DependencyError as error:
        raise SystemExit(str(error)) from error


def solve(scan: Scan, settings: RefineSettings, epochs: int) -> Iterator[Epoch]:
    """Run the solver from an object of ones and the scan's own probe; time spent by the caller does not count."""
    from ptycho_adapters.ptychi.solver import Solver  # noqa: PLC0415 - after torchvision is mended
    from ptycho_adapters.ptychi.start import cold_start  # noqa: PLC0415

    start = cold_start(scan)
    started = time.perf_counter()
    solver = Solver(scan, start, settings)
    seconds = time.perf_counter() - started
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        solver.step()
        seconds += time.perf_counter() - started
        yield Epoch(number=number, seconds=seconds, object=solver.object, origin_px=start.origin_px, probe=solver.probe)
