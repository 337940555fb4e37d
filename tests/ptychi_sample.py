"""A small scan without noise, and its true object to start from, for the tests of pty-chi."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.ptychi.start import Start
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan


def clean_scan(*, N: int = 32, n_modes: int = 1, whole_pixel: bool = False) -> Scan:
    """A simulated scan of 49 patterns without noise."""
    config = SimulationConfig(N=N, n_modes=n_modes, whole_pixel=whole_pixel, object_size_px=72, step_px=6, photons=1e6)
    made = simulate(config)
    assert made.object is not None
    exact = scan_counts(made.object, made.probe, made.positions_px)
    return attrs.evolve(made, patterns=exact.astype(np.float32))


def truth_of(scan: Scan) -> Start:
    """Start from the object that the scan was made of; its canvas has room for every patch."""
    assert scan.object is not None
    return Start(
        object=np.pad(scan.object, 4, constant_values=1.0),
        origin_px=(-4, -4),
        probe=scan.probe,
        positions_px=scan.positions_px,
        cold=False,
    )
