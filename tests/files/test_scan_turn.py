"""Scans that lie turned on their detector: what py4DSTEM states of it is applied in its sense, or another is given."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import numpy.typing as npt
import pytest

from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan, write_scan
from ptycho_adapters.files.reading import ReadRequest
from ptycho_adapters.files.scans import read_requested
from ptycho_adapters.files.stated import Stated
from ptycho_core.errors import ScanFileError
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

Real = npt.NDArray[np.float64]

N, SIDE, STEP_PX, TURN_RAD = 32, 10, 3.0, 0.6
PIXEL_M = 1.25e-11
STEP_M = STEP_PX * PIXEL_M


def _true_positions(*, exchanged: bool) -> Real:
    """By py4DSTEM's ptychography: rows and columns of the raster turned by -QR_rotation, then exchanged if flipped."""
    rows, columns = (axis.ravel() * STEP_PX for axis in np.mgrid[:SIDE, :SIDE].astype(np.float64))
    cosine, sine = np.cos(TURN_RAD), np.sin(TURN_RAD)
    turned = np.stack([cosine * rows + sine * columns, -sine * rows + cosine * columns], axis=1)
    return turned[:, ::-1] if exchanged else turned


@cache
def _made(*, exchanged: bool) -> Scan:
    """The detector's view of a raster that lies turned on it."""
    source = simulate(SimulationConfig(N=N, object_size_px=100, step_px=30.0, photons=1e6, seed=2))
    positions = _true_positions(exchanged=exchanged)
    centred = positions - positions.mean(axis=0) + 49.5
    assert source.object is not None
    return simulate_scan(source.object, source.probe, centred, rng=np.random.default_rng(1))


def _save(path: Path, *, exchanged: bool = False, degrees: bool = False) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("datacube_root/datacube")
        group["data"] = _made(exchanged=exchanged).patterns.reshape(SIDE, SIDE, N, N)
        for axis, (step, unit) in enumerate([(STEP_M * 1e9, "nm")] * 2 + [(1e-10 / (N * PIXEL_M), "A^-1")] * 2):
            group[f"dim{axis}"] = np.array([0.0, step])
            group[f"dim{axis}"].attrs["units"] = unit
        said = file.create_group("datacube_root/metadatabundle/calibration")
        said["QR_flip"] = exchanged
        if degrees:
            said["QR_rotation_degrees"] = np.degrees(TURN_RAD)
        else:
            said["QR_rotation"] = TURN_RAD
    return path


def _read(path: Path, stated: Stated | None = None, *, exchanged: bool = False) -> Scan:
    probe = _made(exchanged=exchanged).probe
    said = stated or Stated()
    return read_requested(path, ReadRequest(probe=lambda _: probe, stated=said))


def _centred(positions: Real) -> Real:
    middle: Real = positions - positions.mean(axis=0)
    return middle


def _misfit(scan: Scan) -> float:
    """R-factor of the known object at the positions that were read."""
    truth = _made(exchanged=False)
    assert truth.object is not None
    expected = scan_counts(truth.object, truth.probe, _centred(scan.positions_px) + 49.5)
    measured = np.sqrt(scan.patterns.astype(np.float64))
    return float(np.abs(measured - np.sqrt(expected)).sum() / measured.sum())


def _curl(turn_rad: float, *, exchanged: bool) -> float:
    """What py4DSTEM's search makes least: the curl of the centres of mass, turned to the axes of the scan."""
    patterns = _made(exchanged=exchanged).patterns.astype(np.float64).reshape(SIDE, SIDE, N, N)
    place = np.arange(N) - N // 2
    total = patterns.sum(axis=(2, 3))
    down, across = ((patterns * axis).sum(axis=(2, 3)) / total for axis in (place[:, None], place[None, :]))
    x, y = (across, down) if exchanged else (down, across)
    x, y = np.cos(turn_rad) * x - np.sin(turn_rad) * y, np.sin(turn_rad) * x + np.cos(turn_rad) * y
    curl = (y[2:, 1:-1] - y[:-2, 1:-1]) - (x[1:-1, 2:] - x[1:-1, :-2])
    return float(np.abs(curl).mean())


@pytest.mark.parametrize("exchanged", [False, True])
def test_the_turn_that_py4dstem_would_state_is_the_one_that_is_applied(exchanged: bool, tmp_path: Path) -> None:
    """Its search finds this turn in these frames, and positions that were read lie where the frames were taken."""
    found = _curl(TURN_RAD, exchanged=exchanged)
    assert found < 0.8 * min(_curl(turn, exchanged=exchanged) for turn in (-TURN_RAD, 0.0))

    scan = _read(_save(tmp_path / "scan.emd", exchanged=exchanged), exchanged=exchanged)

    true = _made(exchanged=exchanged).positions_px
    np.testing.assert_allclose(_centred(scan.positions_px), _centred(true), atol=1e-9)
    words = "turned by 0.6 rad from x towards y" + (", and their axes exchanged" if exchanged else "")
    assert f"{words}, as the file states" in scan.metadata.extra["rotation_evidence"]


def test_the_known_object_fits_with_the_right_sign_alone(tmp_path: Path) -> None:
    """Left out or the wrong way round, the frames are explained far worse; what is given is noted as given."""
    path = _save(tmp_path / "scan.emd", degrees=True)
    own, left_out, wrong = (
        _read(path, stated)
        for stated in (Stated(), Stated(positions_turn_rad=0.0), Stated(positions_turn_rad=-TURN_RAD))
    )

    assert _misfit(own) < 0.5 * min(_misfit(left_out), _misfit(wrong))
    assert left_out.metadata.extra["rotation_evidence"].endswith("as given")
    np.testing.assert_allclose(left_out.positions_px[1] - left_out.positions_px[0], (0.0, STEP_PX), atol=1e-9)


def test_a_turn_holds_for_a_raster_by_its_steps_and_not_for_a_table(tmp_path: Path) -> None:
    """Given steps lie along the axes of the scan, as the file's; a table says where frames are, and is left alone."""
    path = _save(tmp_path / "scan.emd")
    table = _true_positions(exchanged=False)

    stepped = _read(path, Stated(step_m=(STEP_M, STEP_M)))
    given = _read(path, Stated(positions_px=table))

    np.testing.assert_allclose(_centred(stepped.positions_px), _centred(table), atol=1e-9)
    np.testing.assert_array_equal(given.positions_px, table)
    assert given.metadata.extra["rotation_evidence"].startswith("not turned by 0.6 rad")


def test_a_preparation_turns_too_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, by the file's turn; a given one takes its place."""
    path, out = _save(tmp_path / "scan.emd"), tmp_path / "out.npz"
    typed = ["prepare", str(path), str(out), "--size", "32", "--quiet", "--centre-y", "16", "--centre-x", "16"]

    assert main(typed) == 0
    assert "positions turned by 0.6 rad from x towards y, as the file states" in capsys.readouterr().out
    np.testing.assert_allclose(_centred(_prepared(out)), _centred(_true_positions(exchanged=False)), atol=1e-6)
    assert main([*typed, "--positions-turn-rad", "0"]) == 0
    assert "turned by" not in capsys.readouterr().out
    np.testing.assert_allclose(_prepared(out)[1] - _prepared(out)[0], (0.0, STEP_PX), atol=1e-6)


def _prepared(out: Path) -> Real:
    return read_scan(out, probe=lambda _: _made(exchanged=False).probe, detector_check="off").positions_px


def test_every_reading_command_takes_a_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of formats that have their own object it is refused, and of NPZ files with the command that does it."""
    path, npz, cxi = _save(tmp_path / "scan.emd"), tmp_path / "scan.npz", tmp_path / "scan.cxi"
    np.save(tmp_path / "probe.npy", _made(exchanged=False).probe[0])
    flags = ["--probe", str(tmp_path / "probe.npy"), "--voltage-v", "3e5"]

    assert main(["convert", str(path), str(npz), *flags, "--positions-turn-rad", "0"]) == 0
    np.testing.assert_allclose(_prepared(npz)[1] - _prepared(npz)[0], (0.0, STEP_PX), atol=1e-6)
    assert main(["inspect", str(path), *flags, "--positions-turn-rad", "much"]) == 2
    assert "--positions-turn-rad: expected a finite number of radians, found much" in capsys.readouterr().err
    with pytest.raises(ScanFileError, match="ptycho prepare"):
        read_requested(npz, ReadRequest(stated=Stated(positions_turn_rad=0.1)))
    assert main(["convert", str(path), str(cxi), *flags, "--distance-m", "1"]) == 0
    write_scan(_with_object(read_scan(cxi)), cxi)
    with pytest.raises(ScanFileError, match="positions: expected no turn"):
        read_requested(cxi, ReadRequest(stated=Stated(positions_turn_rad=0.1)))


def _with_object(scan: Scan) -> Scan:
    return attrs.evolve(scan, object=np.ones((120, 120), np.complex64), positions_px=scan.positions_px + 40)
