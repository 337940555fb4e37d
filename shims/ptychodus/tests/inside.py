"""The unmodified client, driven through its own interface, and how well it did."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import h5py
import numpy as np
from attrs import evolve
from ptychodus.api.io import load_product
from ptychodus.api.metrics import compute_reconstruction_residuals
from ptychodus.api.object import Object
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.simulate.diffraction import generate_diffraction_data
from ptychodus.model import ModelCore

from ptycho_adapters.files import write_scan
from ptycho_core.physics.canvas import CanvasFrame
from ptycho_core.physics.optics import accumulate_patches
from ptycho_core.results.metrics import compare, evaluation_mask
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

__all__ = ["evolve", "load_product", "write_scan"]  # what the tests take from here beside

ALGORITHMS: Final = (
    "ptychopinn_pinn",
    "ptychopinn_supervised",
    "ptychopinn-torch_unsupervised",
    "ptychopinn-torch_supervised",
)
MODEL_SUFFIX: Final = {"ptychopinn": ".zip", "ptychopinn-torch": ".ckpt"}

_RIM = 4


def made_scan(*, size_px: int = 96) -> Scan:
    """A simulated scan whose object lies as the client lays it: the scan in its middle."""
    scan = simulate(SimulationConfig(object_size_px=size_px, step_px=6.0, jitter_px=1.0, seed=5))
    object_ = scan.object
    assert object_ is not None
    middle = (scan.positions_px.min(axis=0) + scan.positions_px.max(axis=0)) / 2
    reach = np.minimum(middle, np.array(object_.shape) - 1 - middle)
    first = np.ceil(middle - reach).astype(int)
    shape = np.round(2 * (middle - first)).astype(int) + 1
    cropped = object_[first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
    metadata = attrs.evolve(scan.metadata, pixel_size_m=2e-8, wavelength_m=1.2398e-10, distance_m=2.0)
    return attrs.evolve(scan, object=cropped, positions_px=scan.positions_px - first, metadata=metadata)


def staged(scan: Scan, folder: Path) -> Path:
    """Write the client's folder for a scan whose object the client does not know."""
    write_scan(without_truth(scan), folder)
    return folder


def without_truth(scan: Scan) -> Scan:
    """Give a scan with an object of ones in the place of its own."""
    assert scan.object is not None
    return attrs.evolve(scan, object=np.ones_like(scan.object))


def replace_patterns(folder: Path, patterns: np.ndarray) -> None:
    """Put other numbers into the client's file of a scan."""
    with h5py.File(folder / "diffraction.h5", "r+") as file:
        file["patterns"][...] = patterns


def crop_columns(folder: Path, columns: slice) -> None:
    """Leave some columns of the patterns in the client's file of a scan."""
    with h5py.File(folder / "diffraction.h5", "r+") as file:
        for name in ("patterns", "bad_pixels"):
            kept, attributes = file[name][...][..., columns], dict(file[name].attrs)
            del file[name]
            file[name] = kept
            file[name].attrs.update(attributes)


def keep_positions(folder: Path, chosen: np.ndarray) -> None:
    """Leave some positions in the client's file of a product, in this order."""
    with h5py.File(folder / "product.h5", "r+") as file:
        del file["ptycho_core"]
        for name in ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m"):
            kept = file[name][...][chosen]
            del file[name]
            file[name] = kept


def move_stage(folder: Path, *, y_m: float, x_m: float) -> None:
    """Move the origin of the stage in the client's file of a product: the object goes along."""
    with h5py.File(folder / "product.h5", "r+") as file:
        del file["ptycho_core"]
        for axis, distance in (("y", y_m), ("x", x_m)):
            file[f"probe_position_{axis}_m"][...] += distance
            file["object"].attrs[f"center_{axis}_m"] += distance


@contextmanager
def client(folder: Path) -> Iterator[tuple[Any, Any]]:
    """The client's core, and its handle on the product of a folder."""
    with ModelCore() as core:
        diffraction = core.workflow_api.load_assembled_diffraction_data(folder / "diffraction.h5")
        yield core, core.workflow_api.load_product(folder / "product.h5", diffraction=diffraction)


def set_windows(core: Any, *, gridsize: int, epochs: int, size: int = 64) -> None:
    """Set what a user sets in the client's windows; everything else keeps its default."""
    core.ptychopinn_reconstructor_library.model_settings.gridsize.set_value(gridsize)
    core.ptychopinn_reconstructor_library.training_settings.nepochs.set_value(epochs)
    torch_side = core.ptychopinn_torch_reconstructor_library
    torch_side.training_settings.epochs.set_value(epochs)
    torch_side.data_settings.model_size.set_value(size)
    torch_side.data_settings.num_channels.set_value(gridsize**2)
    for axis in (torch_side.data_settings.grid_size_x, torch_side.data_settings.grid_size_y):
        axis.set_value(gridsize)


def exported(product: Any, algorithm: str, folder: Path) -> Path:
    """Export training data as the library wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("train_data.npz",) if "torch" in algorithm else ("train_data.npz", "test_data.npz")
    for name in names:
        product.export_training_data(folder / name, algorithm=algorithm)
    return folder


def batch(action: str, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Run the client's own command line."""
    command = [sys.executable, "-m", "ptychodus", "-b", action, "-i", str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@attrs.frozen(kw_only=True)
class Quality:
    """How good a product is: against the truth, without any registration but a search for it, and by the client."""

    offset_px: float
    phase_correlation: float
    r_factor_ratio: float


def quality(product: Any, scan: Scan) -> Quality:
    """Judge a product of the client."""
    truth, array = scan.object, product.object_.get_layer(0)
    assert truth is not None
    assert array.shape == truth.shape
    light = np.broadcast_to(np.square(np.abs(scan.probe)).sum(axis=0), scan.patterns.shape)
    # Patches may stick out of the client's object by a pixel.
    frame = CanvasFrame(origin_px=(-_RIM, -_RIM), shape=(truth.shape[0] + 2 * _RIM, truth.shape[1] + 2 * _RIM))
    coverage = accumulate_patches(light, scan.positions_px, frame)[_RIM:-_RIM, _RIM:-_RIM]
    found = compare(array, truth, mask=evaluation_mask(coverage))
    offset = float(np.hypot(*found.shift_px))
    return Quality(
        offset_px=offset,
        phase_correlation=found.phase_correlation,
        r_factor_ratio=r_factor(product, scan) / r_factor(_uniform(product), scan),
    )


def _uniform(product: Any) -> Any:
    own = product.object_
    plain = Object(np.ones_like(own.get_array()), own.get_pixel_geometry(), own.get_center(), list(own.layer_spacing_m))
    return dataclasses.replace(product, object_=plain)


def r_factor(product: Any, scan: Scan) -> float:
    """The client's own R-factor."""
    measured, good = scan.patterns.astype(float), np.zeros((scan.N, scan.N), dtype=bool)
    return float(
        np.nanmean(compute_reconstruction_residuals(as_simulated(product), measured, good).real_space_error_map)
    )


def as_simulated(product: Any) -> Any:
    """Give a product whose probe is on the scale of the client's simulator, which gives irradiance and not counts."""
    metadata, probes = product.metadata, product.probes
    pixel = probes.get_pixel_geometry().width_m
    detector = metadata.photon_wavelength_m * metadata.detector_distance_m / (probes.width_px * pixel)
    scaled = ProbeSequence(
        probes.get_array() * detector / pixel, probes.get_opr_weights_or_none(), probes.get_pixel_geometry()
    )
    return dataclasses.replace(product, probes=scaled)


def of_the_flux_of(product: Any, scan: Scan) -> Any:
    """Give a product whose patterns hold as much light as those measured, for whoever rescales the probe on the way."""
    simulated = generate_diffraction_data(as_simulated(product)).get_patterns()
    factor = float(np.sqrt(scan.patterns.sum(dtype=float) / simulated.sum()))
    probes = product.probes
    brighter = ProbeSequence(probes.get_array() * factor, probes.get_opr_weights_or_none(), probes.get_pixel_geometry())
    return dataclasses.replace(product, probes=brighter)
