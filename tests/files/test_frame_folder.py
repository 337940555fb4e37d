"""Folders with one picture a frame, as detectors fill them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

import beamline_samples as samples
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.scan_input import read_measured
from ptycho_adapters.commands import infer
from ptycho_adapters.files import read_file_facts, read_scan
from ptycho_adapters.files.stacks.folder import frame_names

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = ["--energy-ev", str(samples.ENERGY_EV), "--distance-m", "2", "--detector-pixel-m", "75e-6"]
PROBE = ["--probe-model", "gaussian,fwhm-m=6e-7"]
KINDS = ("tif", "edf", "cbf")


def _save_frame(path: Path, frame: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], *, stated: bool) -> None:
    """One picture, with lengths in its header where the format has a place for them."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, frame, compression="zlib")
        return
    fabio = pytest.importorskip(
        "fabio", reason="EDF and CBF are written with fabio: pip install 'ptycho-core[detectors]'"
    )
    wavelength = samples.WAVELENGTH_M
    if path.suffix == ".edf":
        header = {"PSize_1": "75e-6", "SampleDistance": "2.0", "WaveLength": f"{wavelength!r}"} if stated else {}
        fabio.edfimage.EdfImage(data=frame, header=header).write(str(path))
        return
    text = f"# Pixel_size 75e-6 m x 75e-6 m\r\n# Wavelength {1e10 * wavelength!r} A\r\n# Detector_distance 2.0 m\r\n"
    header = {"_array_data.header_contents": text} if stated else {}
    fabio.cbfimage.CbfImage(data=frame.astype(np.int32), header=header).write(str(path))


def save_folder(folder: Path, suffix: str, *, stated: bool = False) -> Path:
    """The experiment, its frames numbered without leading zeros, with a dark picture and a log beside them."""
    folder.mkdir()
    for number, frame in enumerate(samples.experiment().counts):
        _save_frame(folder / f"scan7_{number + 7}.{suffix}", frame, stated=stated)
    (folder / "log.txt").write_text("no frame")
    return folder


def positions_file(path: Path) -> list[str]:
    """Positions in micrometres, x before y, and the flags that name them."""
    y, x = samples.experiment().positions_m.T * 1e6
    path.write_text("\n".join(["x,y", *(f"{a!r},{b!r}" for a, b in zip(x.tolist(), y.tolist(), strict=True))]))
    return ["--positions", str(path), "--unit", "um"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_becomes_a_scan_by_flags(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames in the order of their numbers, positions from a table, lengths from flags: the experiment."""
    folder, out = save_folder(tmp_path / "frames", kind), tmp_path / "scan.npz"
    flags = [*positions_file(tmp_path / "stage.csv"), *LENGTHS, *PROBE]

    assert main(["convert", str(folder), str(out), *flags]) == 0
    assert main(["inspect", str(folder), "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["format"] == "folder of frames"

    scan, truth = read_scan(out), samples.experiment()
    assert np.array_equal(scan.patterns, truth.counts)
    np.testing.assert_allclose(scan.positions_px, truth.positions_m / samples.PIXEL_M, rtol=1e-9)
    assert scan.metadata.pixel_size_m == pytest.approx(samples.PIXEL_M, rel=1e-9)
    assert scan.metadata.extra["ignored_keys"] == "log.txt"


@pytest.mark.parametrize("kind", ["edf", "cbf"])
def test_headers_say_lengths(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the first frame's header says need not be typed; only the positions are missing, with their flags."""
    folder = save_folder(tmp_path / "frames", kind, stated=True)

    assert main(["inspect", str(folder), "--json", *PROBE]) == 0

    sheet = json.loads(capsys.readouterr().out)
    assert sheet["facts"]["geometry"]["expected_object_pixel_m"] == pytest.approx(samples.PIXEL_M, rel=1e-9)
    (missing,) = sheet["missing"]
    assert missing.startswith("positions: expected 6 positions, one a frame")
    assert "--positions FILE --columns X,Y" in missing
    assert read_file_facts(folder).n_patterns == samples.N_PATTERNS


def test_a_folder_goes_through_a_preparation_and_a_reconstruction(tmp_path: Path) -> None:
    """`prepare` takes it as it takes a file; `infer` needs no preparation where nothing has to be cut."""
    folder = save_folder(tmp_path / "frames", "tif")
    flags = [*positions_file(tmp_path / "stage.csv"), *LENGTHS]
    place = ["--size", "16", "--centre-y", "8", "--centre-x", "8"]

    assert main(["prepare", str(folder), str(tmp_path / "scan.npz"), "--quiet", *place, *flags]) == 0
    assert np.array_equal(
        read_scan(tmp_path / "scan.npz", probe=samples.the_probe).patterns, samples.experiment().counts
    )
    typed = ["infer", "--test-data", str(folder), "--output-dir", str(tmp_path / "out"), *flags, *PROBE]
    request = infer.read_request(parse(typed)[1])
    scan = read_measured(folder, request, infer.plan(request))
    assert np.array_equal(scan.patterns, samples.experiment().counts)
    np.testing.assert_allclose(scan.positions_px, samples.experiment().positions_m / samples.PIXEL_M, rtol=1e-9)


def test_a_frame_of_another_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The picture that does not fit is named, with what the others are; so is one that is damaged."""
    folder = save_folder(tmp_path / "frames", "tif")
    flags = [*positions_file(tmp_path / "stage.csv"), *LENGTHS, *PROBE]
    tifffile.imwrite(folder / "scan7_9.tif", np.ones((8, 8), np.uint16))

    typed = ["infer", "--test-data", str(folder), "--output-dir", str(tmp_path / "out"), *flags]
    assert main(typed) == 2
    assert "scan7_9.tif: expected shape (16, 16) of uint16, found shape (8, 8)" in capsys.readouterr().err
    (folder / "scan7_9.tif").write_bytes((folder / "scan7_8.tif").read_bytes()[:60])
    assert main(typed) == 2
    assert "scan7_9.tif: expected an undamaged TIFF picture" in capsys.readouterr().err


def test_frames_are_the_pictures_that_differ_in_numbers() -> None:
    """Dark pictures, hidden files and other files are none; numbers count, not letters."""
    names = ["a_10.tif", "a_9.tif", "dark.tif", ".a_1.tif", "a_11.txt", "mask_1.tif"]

    assert frame_names(names) == ["a_9.tif", "a_10.tif"]
    assert frame_names(["a.tif", "b.tif"]) == []
    assert frame_names(["a_1.tif"]) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--energy-ev", "8000", "--wavelength-m", "1e-10"], "--energy-ev and --wavelength-m: only one"),
        (["--energy-ev", "many"], "--energy-ev: expected a finite number > 0, found many"),
        (["--step-m", "0"], "--step-m: expected one or two numbers in metres"),
        (["--raster", "3"], "--raster: expected two whole numbers"),
        (["--positions", "nowhere.csv"], "--positions file not found: nowhere.csv"),
    ],
)
def test_flags_that_say_nothing_are_refused(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, before a frame is read."""
    assert main(["inspect", str(save_folder(tmp_path / "frames", "tif")), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_says_it_itself_takes_no_such_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a scan of this library holds is changed by a preparation, never passed over."""
    path = tmp_path / "scan.npz"
    assert main(["convert", str(samples.save_cxi(tmp_path / "scan.cxi")), str(path)]) == 0

    flags = ["--output-dir", str(tmp_path / "out"), "--energy-ev", "9000"]
    assert main(["infer", "--test-data", str(path), *flags]) == 2
    assert "NPZ says it in the file, found wavelength m; change it with ptycho prepare" in capsys.readouterr().err
