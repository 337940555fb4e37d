"""A file as a beamline leaves it, to try the pages with: `python docs/tools/beamtime.py FOLDER` writes beamtime.cxi.

Frames of 76 x 84 px, the beam beside the middle, a gap between two modules that nobody masked, a hot pixel, sample
positions in metres, no probe. The optics were a zone plate with outermost zones of 100 nm, 160 um wide, with a stop
of 60 um, and the sample stood 1.25 mm behind the focus.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_energy
from ptycho_core.physics.probe_models import ProbeFrame, ZonePlate, model_probe
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan

ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M = 8000.0, 2.0, 75e-6
OPTICS = ZonePlate(outermost_zone_m=100e-9, diameter_m=160e-6, stop_m=60e-6, defocus_m=1.25e-3)
_SIZE_PX, _FRAME_PX, _CORNER_PX = 64, (76, 84), (8, 5)
_JOULE_PER_EV = 1.602176634e-19


def write(path: Path, *, object_px: int = 130, step_px: float = 6.0) -> None:
    """Write the file.

    Args:
        path: CXI file.
        object_px: side of the object; with the step it says how many frames there are.
        step_px: between neighbouring positions, in object pixels.
    """
    wavelength_m = wavelength_from_energy(energy_ev=ENERGY_EV)
    pixel_m = object_pixel_m(
        wavelength_m=wavelength_m, distance_m=DISTANCE_M, detector_pixel_m=DETECTOR_PIXEL_M, size_px=_SIZE_PX
    )
    probe = model_probe(OPTICS, ProbeFrame(size_px=_SIZE_PX, pixel_m=pixel_m, wavelength_m=wavelength_m), photons=1e5)
    plan = simulate(SimulationConfig(object_size_px=object_px, step_px=step_px, seed=5))
    if plan.object is None:
        raise ValueError("a simulated scan knows its object")
    scan = simulate_scan(plan.object, probe, plan.positions_px, rng=np.random.default_rng(5))
    frames = np.zeros((len(scan.patterns), *_FRAME_PX), np.uint32)
    row, column = _CORNER_PX
    frames[:, row : row + _SIZE_PX, column : column + _SIZE_PX] = scan.patterns
    frames[:, :, 20:23] = 0
    frames[:, 60, 70] = 40_000
    y, x = (scan.positions_px * pixel_m).T
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["distance"] = DISTANCE_M
        detector["x_pixel_size"] = detector["y_pixel_size"] = DETECTOR_PIXEL_M
        detector.create_dataset("data", data=frames, chunks=(1, *_FRAME_PX), compression="gzip")
        file["entry_1/instrument_1/source_1/energy"] = ENERGY_EV * _JOULE_PER_EV
        file["entry_1/sample_1/geometry_1/translation"] = np.stack([x, y, np.zeros_like(x)], axis=1)


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "beamtime.cxi")
