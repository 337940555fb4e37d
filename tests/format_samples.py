"""One experiment in every format that is read: how it is saved, what it may lack, and what the matrix says about it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import attrs
import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import beamline_samples as samples
from ptycho_adapters.files import read_scan, write_scan
from ptycho_core.measurement.geometry import wavelength_from_voltage

ELECTRONS_M = wavelength_from_voltage(voltage_v=3e5)
RASTER, STEP_M, ELECTRON_PIXEL_M = (2, 3), 5e-10, 1.25e-11
STEP_PX = STEP_M / ELECTRON_PIXEL_M
RASTER_PX = [(row * STEP_PX, column * STEP_PX) for row in (0, 1) for column in (0, 1, 2)]
EMPAD_SIDE = 128
LENGTHS = ("--energy-ev", "8000", "--distance-m", "2", "--detector-pixel-m", "75e-6")


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """A format.

    Attributes:
        name: in the matrix.
        save: writes the experiment into a folder and gives what is read.
        spoil: takes away something that can be given instead; the path may be another one then.
        missing: what inspect says is missing then, with the flag that supplies it.
        flags: what the format leaves to be said; FOLDER stands for the folder that it is saved in.
        probe: side of the probe that has to be given; None where the file holds one.
        raster: whether the frames stand in two rows of three, at even steps.
        written_by: test of a file that other software wrote, or why there is none.
    """

    name: str
    save: Callable[[Path], Path]
    spoil: Callable[[Path], object]
    missing: str
    flags: tuple[str, ...] = ()
    probe: int | None = samples.N
    raster: bool = False
    written_by: str

    def typed(self, folder: Path) -> list[str]:
        """The flags that make a scan of it, the probe's included."""
        flags = [flag.replace("FOLDER", str(folder)) for flag in self.flags]
        if self.probe is None:
            return flags
        truth = samples.experiment()
        photons = truth.counts.sum() / samples.N_PATTERNS
        probe = truth.probe[0] * np.sqrt(photons / np.vdot(truth.probe, truth.probe).real)
        np.save(folder / "probe.npy", np.pad(probe, (self.probe - samples.N) // 2).astype(np.complex64))
        return [*flags, "--probe", str(folder / "probe.npy")]

    def positions_px(self) -> npt.NDArray[np.float64]:
        """Where its frames were taken."""
        return np.array(RASTER_PX) if self.raster else samples.experiment().positions_m / samples.PIXEL_M


def _without(key: str) -> Callable[[Path], Path]:
    def delete(path: Path) -> Path:
        with h5py.File(path, "r+") as file:
            del file[key]
        return path

    return delete


def _written(name: str) -> Callable[[Path], Path]:
    """The experiment as this library writes it."""

    def save(folder: Path) -> Path:
        write_scan(read_scan(samples.save_cxi(folder / "source.cxi")), folder / name)
        return folder / name

    return save


def _without_member(path: Path) -> Path:
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files if name != "probeGuess"}
    np.savez(path, **kept)
    return path


def _without_product(path: Path) -> Path:
    (path / "product.h5").unlink()
    return path / "diffraction.h5"


def _save_nexus(folder: Path) -> Path:
    truth, path = samples.experiment(), folder / "scan.nxs"
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["instrument/detector/data"] = truth.counts
        numbers = {"distance": (samples.DISTANCE_M, "m"), "x_pixel_size": (75.0, "um"), "y_pixel_size": (75.0, "um")}
        for name, (value, unit) in numbers.items():
            entry[f"instrument/detector/{name}"] = value
            entry[f"instrument/detector/{name}"].attrs["units"] = unit
        entry["instrument/beam/incident_energy"] = samples.ENERGY_EV
        entry["instrument/beam/incident_energy"].attrs["units"] = "eV"
        for axis, values in (("y", truth.positions_m[:, 0]), ("x", truth.positions_m[:, 1])):
            entry[f"sample/transformations/{axis}"] = 1e6 * values
            entry[f"sample/transformations/{axis}"].attrs["units"] = "um"
    return path


def _save_emd(folder: Path) -> Path:
    path = folder / "scan.emd"
    with h5py.File(path, "w") as file:
        group = file.create_group("datacube_root/datacube")
        group["data"] = samples.experiment().counts.reshape(*RASTER, samples.N, samples.N)
        for axis, (step, unit) in enumerate([(0.5, "nm"), (0.5, "nm"), (0.5, "A^-1"), (0.5, "A^-1")]):
            group[f"dim{axis}"] = np.array([0.0, step])
            group[f"dim{axis}"].attrs["units"] = unit
    return path


def _uncalibrated(path: Path) -> Path:
    with h5py.File(path, "r+") as file:
        for axis in (0, 1):
            file[f"datacube_root/datacube/dim{axis}"].attrs["units"] = "pixels"
    return path


def _save_empad(folder: Path) -> Path:
    frames = np.zeros((6, EMPAD_SIDE + 2, EMPAD_SIDE), dtype="<f4")
    corner = (EMPAD_SIDE - samples.N) // 2
    frames[:, corner : corner + samples.N, corner : corner + samples.N] = samples.experiment().counts
    frames.tofile(folder / "made.raw")
    angle = ELECTRONS_M / (EMPAD_SIDE * ELECTRON_PIXEL_M)
    (folder / "made.xml").write_text(
        '<?xml version="1.0"?><root><raw_file filename="made.raw"/><scan_parameters mode="acquire">'
        "<scan_resolution_x>3</scan_resolution_x><scan_resolution_y>2</scan_resolution_y></scan_parameters>"
        "<source.get_voltage>3e5</source.get_voltage>"
        f"<calibrated_diffraction_angle>{angle!r}</calibrated_diffraction_angle></root>"
    )
    return folder / "made.raw"


def _without_xml(path: Path) -> Path:
    path.with_suffix(".xml").unlink()
    return path


def _save_frames(folder: Path, suffix: str) -> Path:
    """One picture a frame, and a table of positions beside the folder."""
    (folder / "frames").mkdir()
    for number, frame in enumerate(samples.experiment().counts):
        path = folder / "frames" / f"scan_{number:03}.{suffix}"
        if suffix == "tif":
            tifffile.imwrite(path, frame)
            continue
        fabio = pytest.importorskip("fabio", reason="EDF and CBF need pip install 'ptycho-core[detectors]'")
        kind = fabio.edfimage.EdfImage if suffix == "edf" else fabio.cbfimage.CbfImage
        kind(data=frame.astype(np.int32)).write(str(path))
    table = samples.experiment().positions_m[:, ::-1]
    np.savetxt(folder / "stage.csv", table, header="x,y", delimiter=",", fmt="%.17g")
    return folder / "frames"


def _without_last(path: Path) -> Path:
    max(path.iterdir()).unlink()
    return path


_PLACED = ("--positions", "FOLDER/stage.csv")
_FABIO = "test_a_folder_becomes_a_scan_by_flags"
_CLIENT = "test_the_clients_input_is_our_scan"
SAMPLES: tuple[Sample, ...] = (
    Sample(
        name="NPZ, legacy keys",
        save=_written("scan.npz"),
        spoil=_without_member,
        missing="--probe",
        probe=None,
        written_by="test_the_measured_siemens_star_is_amplitude",
    ),
    Sample(
        name="Ptychodus folder",
        save=_written("run"),
        spoil=_without_product,
        missing="--product",
        probe=None,
        written_by=_CLIENT,
    ),
    Sample(
        name="Ptychodus training HDF5",
        save=_written("scan.h5"),
        spoil=_without("probe"),
        missing="--probe",
        probe=None,
        written_by=_CLIENT,
    ),
    Sample(
        name="CXI",
        save=lambda folder: samples.save_cxi(folder / "scan.cxi"),
        spoil=_without("entry_1/sample_1"),
        missing="--positions",
        probe=None,
        written_by="test_a_beamline_s_own_cxi_is_told_about",
    ),
    Sample(
        name="PtychoShelves",
        save=samples.save_fold_slice,
        spoil=lambda path: _without("dx")(path.with_name("data_roi0_para.hdf5")),
        missing="--pixel-m",
        written_by="none: MATLAB is not to be had",
    ),
    Sample(
        name="PtyPy .ptyd",
        save=lambda folder: samples.save_ptyd(folder / "scan.ptyd"),
        spoil=_without("meta/energy"),
        missing="--energy-ev",
        written_by="none: PtyPy is not to be had from PyPI",
    ),
    Sample(
        name="PtyLab",
        save=lambda folder: samples.save_ptylab(folder / "scan.hdf5"),
        spoil=_without("zo"),
        missing="--distance-m",
        written_by="test_ptylab_s_own_simulation_is_read",
    ),
    Sample(
        name="NeXus",
        save=_save_nexus,
        spoil=_without("entry/sample"),
        missing="--positions",
        written_by="test_nexusformat_s_own_file_is_read",
    ),
    Sample(
        name="EMD / py4DSTEM",
        save=_save_emd,
        spoil=_uncalibrated,
        missing="--step-m",
        flags=("--voltage-v", "300000"),
        raster=True,
        written_by="test_emdfile_s_own_file_is_read",
    ),
    Sample(
        name="EMPAD raw",
        save=_save_empad,
        spoil=_without_xml,
        missing="--raster",
        flags=("--step-m", str(STEP_M)),
        probe=EMPAD_SIDE,
        raster=True,
        written_by="none: a detector writes it",
    ),
    *(
        Sample(
            name=f"folder of {suffix.upper()}",
            save=functools.partial(_save_frames, suffix=suffix),
            spoil=_without_last,
            missing="positions for 5 patterns",
            flags=(*_PLACED, *LENGTHS),
            written_by=_FABIO,
        )
        for suffix in ("tif", "edf", "cbf")
    ),
)
