"""Measured data with one thing wrong each: the right scan comes out, or a refusal that says what to do.

What is wrong is in the units, the sizes, the darks, the order and the sense of axes, the number format, the order of
bytes, gaps, values that are no numbers, frames that are missing. What comes out is compared with the scan itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from beamline_samples import DETECTOR, SOURCE, TRANSLATION, changed, replace, save_cxi, translation
from beamline_samples import experiment as cxi_truth
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan
from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_energy
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

N, ROW, COLUMN = 32, 37, 44
HEIGHT, WIDTH = 80, 96
PIXEL = object_pixel_m(
    wavelength_m=wavelength_from_energy(energy_ev=8000.0), distance_m=2.0, detector_pixel_m=75e-6, size_px=N
)
LENGTHS = ("--energy-ev", "8000", "--distance-m", "2", "--detector-pixel-m", "75e-6", "--size", str(N))
_CENTRE = ("--centre-y", str(ROW), "--centre-x", str(COLUMN))
Array = npt.NDArray[np.generic]
Case = tuple[dict[str, Array], tuple[str, ...]]


@pytest.fixture(scope="module")
def scan() -> Scan:
    """What should have been measured."""
    return simulate(SimulationConfig(N=N, object_size_px=90, step_px=8.0, photons=1e5, seed=4))


def _frames(scan: Scan) -> Array:
    """The patterns on a larger detector."""
    frames = np.zeros((scan.n_patterns, HEIGHT, WIDTH), np.int64)
    rows, columns = (slice(place - N // 2, place + N // 2) for place in (ROW, COLUMN))
    frames[:, rows, columns] = scan.patterns
    return frames


def _stage(scan: Scan, unit_m: float) -> dict[str, npt.NDArray[np.float64]]:
    y, x = scan.positions_px.T * PIXEL / unit_m
    return {"x": x, "y": y}


def _positions_in_mm(scan: Scan) -> Case:
    return {"frames": _frames(scan).astype(np.uint16), **_stage(scan, 1e-3)}, ("--unit", "mm")


def _positions_in_angstrom(scan: Scan) -> Case:
    return {"frames": _frames(scan).astype(np.uint16), **_stage(scan, 1e-10)}, ("--unit", "angstrom")


def _big_endian(scan: Scan) -> Case:
    stage = {name: each.astype(">f8") for name, each in _stage(scan, 1e-6).items()}
    return {"frames": _frames(scan).astype(">u2"), **stage}, ("--unit", "um")


def _counts_in_doubles(scan: Scan) -> Case:
    return {"frames": _frames(scan).astype(">f8"), **_stage(scan, 1e-6)}, ("--unit", "um")


def _counts_in_64_bits(scan: Scan) -> Case:
    return {"frames": _frames(scan), **_stage(scan, 1e-6)}, ("--unit", "um")


def _gap_of_minus_one(scan: Scan) -> Case:
    frames = _frames(scan).astype(np.int32)
    frames[:, ROW + 6 : ROW + 9] = -1
    return {"frames": frames, **_stage(scan, 1e-6)}, ("--unit", "um", "--mask-below", "-0.5", *_CENTRE)


def _pixels_that_are_no_numbers(scan: Scan) -> Case:
    frames = _frames(scan).astype(np.float32)
    frames[:, ROW + 6, COLUMN - 9] = np.nan
    frames[:, ROW - 7, COLUMN + 3] = np.inf
    return {"frames": frames, **_stage(scan, 1e-6)}, ("--unit", "um")


def _the_largest_number_for_a_gap(scan: Scan) -> Case:
    frames = _frames(scan).astype(np.uint32)
    frames[:, :, COLUMN + 7 : COLUMN + 9] = 2**32 - 1
    return {"frames": frames, **_stage(scan, 1e-6)}, ("--unit", "um")


def _closed_shutter(scan: Scan) -> Case:
    dark = np.zeros((4, HEIGHT, WIDTH), np.int64)
    frames = np.concatenate([_frames(scan), dark]).astype(np.uint16)
    stage = {name: np.append(each, each[:4] + 1.0) for name, each in _stage(scan, 1e-6).items()}
    return {"frames": frames, **stage}, ("--unit", "um", "--drop-odd")


def _raster_of_rows(scan: Scan) -> Case:
    rows = scan.n_patterns // 7
    frames = _frames(scan).astype(np.uint16).reshape(rows, 7, HEIGHT, WIDTH)
    return {"frames": frames, **_stage(scan, 1e-6)}, ("--unit", "um")


def _rows_and_columns_exchanged(scan: Scan) -> Case:
    return {"frames": _frames(scan).astype(np.uint16).swapaxes(1, 2), **_stage(scan, 1e-6)}, (
        "--unit",
        "um",
        "--transpose",
    )


def _upside_down(scan: Scan) -> Case:
    stage = _stage(scan, 1e-6)
    stage["y"] = -stage["y"]
    return {"frames": _frames(scan).astype(np.uint16), **stage}, ("--unit", "um", "--positions-flip", "rows")


def _pedestal(scan: Scan) -> Case:
    return {"frames": (_frames(scan) + 100).astype(np.uint16), **_stage(scan, 1e-6)}, (
        "--unit",
        "um",
        "--background",
        "100",
    )


@pytest.mark.parametrize(
    "make",
    [
        _positions_in_mm,
        _positions_in_angstrom,
        _big_endian,
        _counts_in_doubles,
        _counts_in_64_bits,
        _gap_of_minus_one,
        _pixels_that_are_no_numbers,
        _the_largest_number_for_a_gap,
        _closed_shutter,
        _raster_of_rows,
        _rows_and_columns_exchanged,
        _upside_down,
        _pedestal,
    ],
)
def test_the_scan_comes_out_of_what_was_measured(make: Callable[[Scan], Case], scan: Scan, tmp_path: Path) -> None:
    """Counts outside of the mask are those of the scan, and positions have its distances, to the last digit."""
    arrays, flags = make(scan)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    source, out = str(tmp_path / "raw.h5"), tmp_path / "out.npz"

    assert main(["prepare", source, str(out), "--quiet", "--positions", source, *LENGTHS, *flags]) == 0

    made = read_scan(out, probe=lambda _: scan.probe, detector_check="off")
    bad = np.zeros((N, N), dtype=bool) if made.bad_pixels is None else made.bad_pixels
    assert bad.sum() <= 3 * N
    np.testing.assert_array_equal(made.counts(), np.where(bad, 0, scan.counts()))
    apart, wanted = (
        each - (each.min(axis=0) + each.max(axis=0)) / 2 for each in (made.positions_px, scan.positions_px)
    )
    np.testing.assert_allclose(apart, wanted, rtol=1e-9, atol=1e-9)


def _with_units(file: h5py.File, key: str, value: npt.ArrayLike, unit: str) -> None:
    replace(file, key, value)
    file[key].attrs["units"] = unit


def _cm_and_um(file: h5py.File) -> None:
    _with_units(file, f"{DETECTOR}/distance", 200.0, "cm")
    for axis in "xy":
        _with_units(file, f"{DETECTOR}/{axis}_pixel_size", 75.0, "um")


def _nanometres(file: h5py.File) -> None:
    _with_units(file, TRANSLATION, translation(cxi_truth()) * 1e9, "nm")


def _electronvolts(file: h5py.File) -> None:
    _with_units(file, f"{SOURCE}/energy", 8000.0, "eV")


def _wavelength_in_angstrom(file: h5py.File) -> None:
    del file[f"{SOURCE}/energy"]
    file[f"{SOURCE}/wavelength"] = 1.549802480415
    file[f"{SOURCE}/wavelength"].attrs["units"] = "angstrom"


def _upstream_detector(file: h5py.File) -> None:
    replace(file, f"{DETECTOR}/distance", -2.0)


@pytest.mark.parametrize(
    "spoil", [_cm_and_um, _nanometres, _electronvolts, _wavelength_in_angstrom, _upstream_detector]
)
def test_units_that_a_file_states_count(spoil: Callable[[h5py.File], None], tmp_path: Path) -> None:
    """Whatever they are, the positions in pixels are the same."""
    right = read_scan(save_cxi(tmp_path / "right.cxi"))
    found = read_scan(changed(save_cxi(tmp_path / "scan.cxi"), spoil))

    np.testing.assert_allclose(found.positions_px, right.positions_px, rtol=1e-9)
    assert found.metadata.pixel_size_m == pytest.approx(right.metadata.pixel_size_m)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--wavelength-m", "1.55"), "look at the units of energy, distance and detector pixel"),
        (("--energy-ev", "1.28e-15"), "look at the units of energy, distance and detector pixel"),
        (("--energy-ev", "8"), "positions_px: expected positions in object pixels"),
        (
            ("--detector-pixel-m", "75"),
            "detector pixel: expected a detector pixel from 1e-08 to 0.01 m, found 75 m; it may be in um",
        ),
        (("--distance-m", "2000"), "a distance from 0.0001 to 200 m, found 2000 m; it may be in mm"),
        (("--unit", "nm"), "ptycho prepare --positions FILE --unit UNIT"),
    ],
)
def test_units_that_cannot_be_are_refused_with_the_likely_one(
    flags: tuple[str, str], words: str, scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written."""
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        for name, array in {"frames": _frames(scan), **_stage(scan, 1e-6)}.items():
            file[name] = array
    lengths = [*LENGTHS] if flags[0] in {"--unit", *LENGTHS} else [*LENGTHS[2:]]
    unit = () if flags[0] == "--unit" else ("--unit", "um")
    source, out = str(tmp_path / "raw.h5"), tmp_path / "out.npz"

    assert main(["prepare", source, str(out), "--quiet", "--positions", source, *lengths, *unit, *flags]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def _in_rows(scan: Scan) -> dict[str, Array]:
    return {"diff3d": scan.patterns.reshape(7, 7, N, N)}


def _frames_missing(scan: Scan) -> dict[str, Array]:
    return {"diff3d": scan.patterns[:-3]}


def _complex_frames(scan: Scan) -> dict[str, Array]:
    return {"diff3d": scan.patterns.astype(np.complex64)}


def _not_square(scan: Scan) -> dict[str, Array]:
    return {"diff3d": scan.patterns[:, 4:-4]}


def test_frames_on_the_last_axis_are_taken_from_there(scan: Scan, tmp_path: Path) -> None:
    """As the legacy software kept them."""
    y, x = scan.positions_px.T
    frames = np.moveaxis(scan.patterns, 0, -1)
    np.savez(tmp_path / "scan.npz", diff3d=frames, xcoords=x, ycoords=y, probeGuess=scan.probe)

    np.testing.assert_array_equal(read_scan(tmp_path / "scan.npz").counts(), scan.counts())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_in_rows, "a raster is made a stack by ptycho prepare IN OUT.npz"),
        (_frames_missing, "one per pattern, found 49 positions for 46 patterns"),
        (_complex_frames, "expected real numbers"),
        (_not_square, "crop or pad them: ptycho prepare IN OUT.npz --size 24"),
    ],
)
def test_arrays_that_cannot_be_are_refused_with_what_to_do(
    spoil: Callable[[Scan], dict[str, Array]],
    words: str,
    scan: Scan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By every command that reads a scan, and by inspect with exit code 0."""
    y, x = scan.positions_px.T
    arrays = {"diff3d": scan.patterns, "xcoords": x, "ycoords": y, "probeGuess": scan.probe, **spoil(scan)}
    np.savez(tmp_path / "scan.npz", allow_pickle=False, **arrays)

    assert main(["convert", str(tmp_path / "scan.npz"), str(tmp_path / "out.npz")]) == 2
    assert words in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "scan.npz")]) == 0
    assert words in capsys.readouterr().out
