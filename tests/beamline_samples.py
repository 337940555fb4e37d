"""One small experiment, and files of it as other programs write them, built with h5py from the published layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ptycho_adapters.files import ProbeSetting

DETECTOR = "entry_1/instrument_1/detector_1"
SOURCE = "entry_1/instrument_1/source_1"
TRANSLATION = "entry_1/sample_1/geometry_1/translation"
N = 16
N_PATTERNS = 6
ENERGY_EV = 8000.0
JOULE_PER_EV = 1.602176634e-19
WAVELENGTH_M = 12.398419843320026e-7 / ENERGY_EV
DISTANCE_M = 2.0
DETECTOR_PIXEL_M = 75e-6
PIXEL_M = WAVELENGTH_M * DISTANCE_M / (N * DETECTOR_PIXEL_M)


@attrs.frozen(eq=False)
class Experiment:
    """Counts with the beam in the middle, the beam's (y, x) on the object in metres, a mask and a probe."""

    counts: npt.NDArray[np.uint16]
    positions_m: npt.NDArray[np.float64]
    bad: npt.NDArray[np.bool_]
    probe: npt.NDArray[np.complex64]


def experiment() -> Experiment:
    """The same few frames at every call: a bright spot in the middle, one bad pixel, positions on an odd grid."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[-N // 2 : N // 2, -N // 2 : N // 2]
    counts = rng.poisson(500.0 * np.exp(-(x**2 + y**2) / 8.0) + 0.1, (N_PATTERNS, N, N)).astype(np.uint16)
    positions_px = np.stack([np.arange(N_PATTERNS) * 1.25 - 2.0, np.arange(N_PATTERNS) ** 2 * 0.5 + 3.0], axis=1)
    bad = np.zeros((N, N), dtype=np.bool_)
    bad[3, 11] = True
    # No symmetry: a probe that was turned or mirrored is another one.
    probe = np.exp(-(x**2 + y**2) / 18.0 + 0.05j * x * y + 0.2j * x).astype(np.complex64)
    return Experiment(counts, positions_px * PIXEL_M, bad, probe[np.newaxis])


def translation(truth: Experiment) -> npt.NDArray[np.float64]:
    """The CXI translations of the sample, (x, y, z), on a detector whose rows run along -y and columns along -x."""
    return np.stack([truth.positions_m[:, 1], truth.positions_m[:, 0], np.full(N_PATTERNS, 0.125)], axis=1)


def save_cxi(path: Path, *, probe: bool = True, linked: bool = True) -> Path:
    """A CXI file as the specification has it: data at the detector, links from data_1, the probe as image_1."""
    truth = experiment()
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["distance"] = DISTANCE_M
        detector["x_pixel_size"] = DETECTOR_PIXEL_M
        detector["y_pixel_size"] = DETECTOR_PIXEL_M
        detector["mask"] = truth.bad.astype(np.uint32) * 512
        detector.create_dataset("data", data=truth.counts, chunks=(1, N, N), compression="gzip")
        file["entry_1/instrument_1/source_1/energy"] = ENERGY_EV * JOULE_PER_EV
        file["entry_1/sample_1/geometry_1/translation"] = translation(truth)
        file["entry_1/title"] = "a text of variable length"
        if linked:
            file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
            file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
        if probe:
            file["entry_1/image_1/data"] = truth.probe
    return path


def save_fold_slice(folder: Path) -> Path:
    """A pair of files as fold_slice writes them; the path is that of the patterns."""
    truth = experiment()
    with h5py.File(folder / "data_roi0_dp.hdf5", "w") as file:
        file.create_dataset("dp", data=truth.counts.astype(np.float32), chunks=(1, N, N), compression="gzip")
    with h5py.File(folder / "data_roi0_para.hdf5", "w") as file:
        file["ppX"], file["ppY"] = truth.positions_m[:, 1], truth.positions_m[:, 0, np.newaxis]
        file["lambda"], file["dx"], file["angle"] = [[WAVELENGTH_M]], PIXEL_M, 12.5
    return folder / "data_roi0_dp.hdf5"


def save_ptyd(path: Path) -> Path:
    """A PtyPy file of two chunks; None is a 0 marked by a text attribute."""
    truth = experiment()
    with h5py.File(path, "w") as file:
        file.attrs["h5rw_version"] = "0.1"
        scalars = {"energy": ENERGY_EV / 1e3, "distance": DISTANCE_M, "num_frames": N_PATTERNS}
        for name, value in scalars.items():
            file[f"meta/{name}"] = value
        file["meta/psize"] = np.full(2, DETECTOR_PIXEL_M)
        file["meta/center"] = np.full(2, N / 2)
        file["meta/shape"] = np.full(2, float(N))
        file["meta/label"] = np.zeros(1)
        file["meta/label"].attrs["type"] = "None"
        for number, rows in enumerate((slice(0, 4), slice(4, N_PATTERNS))):
            chunk = file.create_group(f"chunks/{number}")
            chunk.create_dataset("data", data=truth.counts[rows].astype(np.int32), compression="gzip")
            chunk["positions"] = truth.positions_m[rows]
            chunk["indices"] = np.arange(N_PATTERNS)[rows]
            weights = np.broadcast_to(~truth.bad, truth.counts[rows].shape)
            chunk.create_dataset("weights", data=weights, compression="gzip")
    return path


def the_probe(setting: ProbeSetting) -> npt.NDArray[np.complex64]:
    """The experiment's probe, for formats that hold none."""
    if setting.size_px != N:
        raise ValueError(setting)
    return experiment().probe


def save_one(folder: Path, name: str) -> Path:
    """One file of the experiment by the name of its format."""
    if name == "fold_slice":
        return save_fold_slice(folder)
    return save_cxi(folder / "scan.cxi") if name == "cxi" else save_ptyd(folder / "scan.ptyd")


def changed(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """The same file after an edit."""
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(file: h5py.File, key: str, value: npt.ArrayLike) -> None:
    """Put another array in a dataset's place."""
    del file[key]
    file[key] = value


def never_written(file: h5py.File) -> None:
    """Declare a terabyte of patterns and store none."""
    del file[f"{DETECTOR}/data"]
    file.create_dataset(f"{DETECTOR}/data", shape=(10**6, 512, 512), dtype="u4", chunks=(1, 512, 512))


def save_ptyr(path: Path) -> Path:
    """A result of PtyPy: storages of probe and object, each with its pixel."""
    with h5py.File(path, "w") as file:
        for kind, array in (("probe", experiment().probe), ("obj", np.ones((1, 40, 50), np.complex64))):
            file[f"content/{kind}/Sscan00G00/data"] = array
            file[f"content/{kind}/Sscan00G00/_psize"] = np.full(2, PIXEL_M)
        file["content/positions/Sscan00G00"] = experiment().positions_m
        file["content/pars/scans/scan00/name"] = np.bytes_("Full")
    return path


def save_ptylab(path: Path, *, by_matlab: bool = False) -> Path:
    """A PtyLab file; by MATLAB every array has its axes in the other order, and numbers are tables of one."""
    truth = experiment()
    numbers = {"wavelength": WAVELENGTH_M, "zo": DISTANCE_M, "dxd": DETECTOR_PIXEL_M, "entrancePupilDiameter": 1e-4}
    with h5py.File(path, "w", userblock_size=512 if by_matlab else 0) as file:
        counts, encoder = truth.counts.astype(np.float32), truth.positions_m
        file["ptychogram"] = counts.swapaxes(1, 2) if by_matlab else counts
        file["encoder"] = encoder.T if by_matlab else encoder
        for name, value in numbers.items():
            file[name] = [[value]] if by_matlab else (value,)
        file["Nd"] = [N]
    if by_matlab:
        with path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file")
    return path
