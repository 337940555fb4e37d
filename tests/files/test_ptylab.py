"""PtyLab's files, from the published layout to the same scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import beamline_samples as samples
from beamline_samples import changed, replace, save_ptylab, the_probe
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_file_facts, read_scan
from ptycho_adapters.files.raw.frames import raw_frames
from ptycho_core.errors import ScanFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py


@pytest.mark.parametrize("by_matlab", [False, True])
def test_rows_columns_and_lengths_are_the_experiment_s(by_matlab: bool, tmp_path: Path) -> None:
    """Written by Python or by MATLAB, behind its user block and with all axes exchanged: one scan."""
    truth = samples.experiment()
    path = save_ptylab(tmp_path / "scan.hdf5", by_matlab=by_matlab)

    scan = read_scan(path, probe=the_probe)

    assert np.array_equal(scan.patterns, truth.counts)
    np.testing.assert_allclose(scan.positions_px, truth.positions_m / samples.PIXEL_M, rtol=1e-12)
    assert scan.metadata.pixel_size_m == pytest.approx(samples.PIXEL_M, rel=1e-12)
    assert ("axes_evidence" in scan.metadata.extra) is by_matlab
    assert read_file_facts(path).title == "PtyLab"


@pytest.mark.parametrize("orientation", range(8))
def test_frames_are_turned_as_the_file_asks(orientation: int, tmp_path: Path) -> None:
    """Frames that were turned before they were written come out upright: the code says what undoes it."""
    truth = samples.experiment().counts.astype(np.float32)
    stored = truth
    if orientation & 2:
        stored = np.flip(stored, 1)
    if orientation & 1:
        stored = np.flip(stored, 2)
    if orientation & 4:
        stored = np.transpose(stored, (0, 2, 1))

    def turn(file: h5py.File) -> None:
        replace(file, "ptychogram", np.ascontiguousarray(stored))
        file["orientation"] = orientation

    scan = read_scan(changed(save_ptylab(tmp_path / "scan.hdf5"), turn), probe=the_probe)

    assert np.array_equal(scan.patterns, truth)
    assert ("orientation_evidence" in scan.metadata.extra) is (orientation > 0)


@pytest.mark.parametrize("by_matlab", [False, True])
@pytest.mark.parametrize("orientation", [0, 1, 4])
def test_single_frames_are_turned_as_all_are(by_matlab: bool, orientation: int, tmp_path: Path) -> None:
    """What a preparation looks at before it goes through the file are frames of the file as they come out."""

    def turn(file: h5py.File) -> None:
        file["orientation"] = orientation

    path = save_ptylab(tmp_path / "scan.hdf5", by_matlab=by_matlab)
    source = raw_frames(path if by_matlab else changed(path, turn))
    whole = np.concatenate(list(source.read()))
    assert whole.shape == source.shape

    some = source.spread(np.arange(source.shape[0]), 3)
    np.testing.assert_array_equal(some, whole[[0, (source.shape[0] - 1) // 2, source.shape[0] - 1]])


def _without(key: str) -> Callable[[h5py.File], None]:
    def delete(file: h5py.File) -> None:
        del file[key]

    return delete


def _fourier(file: h5py.File) -> None:
    del file["zo"]
    file["zled"] = 0.07


BAD: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no encoder": (_without("encoder"), r"encoder: expected positions.*--positions FILE"),
    "no distance": (_without("zo"), r"found no distance; give --distance-m"),
    "no wavelength": (_without("wavelength"), r"found no wavelength; give --energy-ev"),
    "a flat encoder": (lambda file: replace(file, "encoder", np.zeros(6)), r"encoder: expected \(n, 2\) real numbers"),
    "another orientation": (lambda file: file.create_dataset("orientation", data=9), "a whole number from 0 to 7"),
    "a tilted plane": (lambda file: file.create_dataset("theta", data=45.0), "found tilted by 45"),
    "Fourier ptychography": (_fourier, "found Fourier ptychography"),
    "a picture": (lambda file: replace(file, "ptychogram", np.ones((8, 8))), r"expected a stack of frames"),
    "distance in mm": (lambda file: replace(file, "zo", 2000.0), "it may be in mm"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_by_name(case: tuple[Callable[[h5py.File], object], str], tmp_path: Path) -> None:
    """Whatever is wrong, the message has the key, what was expected and what is there."""
    change, message = case

    with pytest.raises(ScanFileError, match=message):
        read_scan(changed(save_ptylab(tmp_path / "scan.hdf5"), change), probe=the_probe)


def test_patterns_go_through_a_map(tmp_path: Path) -> None:
    """What is larger than the memory is the same scan."""
    path = save_ptylab(tmp_path / "scan.hdf5", by_matlab=True)

    scan = read_scan(path, probe=the_probe, memory_map=tmp_path / "maps")

    assert isinstance(scan.patterns, np.memmap)
    assert np.array_equal(scan.patterns, samples.experiment().counts)


def test_a_preparation_takes_what_the_file_says(tmp_path: Path) -> None:
    """Frames, positions and lengths come from the file; nothing has to be typed."""
    path, out = save_ptylab(tmp_path / "scan.hdf5", by_matlab=True), tmp_path / "out.npz"

    assert main(["prepare", str(path), str(out), "--quiet", "--size", "16", "--centre-y", "8", "--centre-x", "8"]) == 0

    scan = read_scan(out, probe=the_probe)
    assert np.array_equal(scan.patterns, samples.experiment().counts)
    np.testing.assert_allclose(scan.positions_px, samples.experiment().positions_m / samples.PIXEL_M, rtol=1e-9)


def test_ptylab_s_own_simulation_is_read(tmp_path: Path) -> None:
    """Written by the program itself, where it is installed: its own reader finds the same numbers."""
    simulation = pytest.importorskip("PtyLab.io.generateSimulationData", reason="pip install ptylab")
    data = pytest.importorskip("PtyLab.ExperimentalData.ExperimentalData")
    path = tmp_path / "simu.hdf5"
    simulation.generate_simu_hdf5(path)
    theirs = data.ExperimentalData(str(path))

    scan = read_scan(path, probe=lambda _: np.ones((128, 128), np.complex64), detector_check="off")

    assert np.array_equal(scan.patterns, theirs.ptychogram)
    pixel = theirs.wavelength * theirs.zo / (theirs.dxd * theirs.Nd)
    np.testing.assert_allclose(scan.positions_px, theirs.encoder / pixel, rtol=1e-6)
