"""`ptycho prepare`: what detectors and stages write, made into a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from beamline_samples import PIXEL_M, changed, experiment, replace, save_cxi
from beamline_samples import N as BEAMLINE_N
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan
from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_energy, wavelength_from_voltage
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

N = 32
ROW, COLUMN = 40, 61  # of the beam on the detector
LENGTHS = {"energy-ev": 8000.0, "distance-m": 2.0, "detector-pixel-m": 75e-6}
PIXEL = object_pixel_m(
    wavelength_m=wavelength_from_energy(energy_ev=8000.0), distance_m=2.0, detector_pixel_m=75e-6, size_px=N
)


@pytest.fixture(scope="module")
def scan() -> Scan:
    """What the detector should have seen."""
    return simulate(SimulationConfig(N=N, object_size_px=70, step_px=8.0, photons=1e5, seed=4))


@pytest.fixture
def raw(scan: Scan, tmp_path: Path) -> Path:
    """A rectangular detector with the beam off its middle, positions in micrometres beside it."""
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        frames = _on_detector(scan.patterns)
        file.create_dataset("entry/data/data", data=frames, chunks=(3, 90, 110), compression="gzip")
        y, x = scan.positions_px.T * PIXEL * 1e6
        file["motors/x"], file["motors/y"] = x, y
    return tmp_path / "raw.h5"


def _on_detector(patterns: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    frames = np.zeros((len(patterns), 90, 110), dtype=patterns.dtype)
    frames[:, ROW - N // 2 : ROW + N // 2, COLUMN - N // 2 : COLUMN + N // 2] = patterns
    return frames


def _prepare(source: Path, out: Path, *flags: object, **named: object) -> int:
    pairs = [part for name, value in named.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return main(["prepare", str(source), str(out), "--quiet", *map(str, flags), *pairs])


def _positions(raw: Path) -> list[str]:
    lengths = [part for name, value in LENGTHS.items() for part in (f"--{name}", str(value))]
    return ["--positions", str(raw), "--columns", "motors/x,motors/y", "--unit", "um", *lengths]


def _read(out: Path, scan: Scan) -> Scan:
    return read_scan(out, probe=lambda _: scan.probe, detector_check="off")


def test_the_window_about_the_beam_is_the_scan(
    scan: Scan, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The beam is found, positions become pixels; what went in, was done and came out is told, with a picture."""
    out, picture = tmp_path / "out.npz", tmp_path / "both.png"
    assert _prepare(raw, out, *_positions(raw), size=N, picture=picture) == 0

    made = _read(out, scan)
    np.testing.assert_array_equal(made.patterns, scan.patterns)
    np.testing.assert_allclose(made.positions_px, scan.positions_px, rtol=1e-9)
    assert made.metadata.pixel_size_m == pytest.approx(PIXEL)
    told = capsys.readouterr().out
    for words in (
        "90 x 110",
        "window of 32 x 32 px about the beam at (",
        "pattern_px",
        "infer, train and convert",
        f"wrote {picture}",
    ):
        assert words in told
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_everything_at_once_is_what_numpy_makes_of_it(scan: Scan, raw: Path, tmp_path: Path) -> None:
    """Mask, dark, flat, turn, flip, window, blocks and dropped frames, each by its own flag."""
    rng = np.random.default_rng(3)
    dark, flat = rng.poisson(9, (4, 90, 110)).astype(np.uint16), rng.uniform(0.5, 1.5, (90, 110)).astype(np.float32)
    mask = (rng.random((90, 110)) < 0.05).astype(np.uint8)
    np.save(tmp_path / "dark.npy", dark)
    tifffile.imwrite(tmp_path / "flat.tif", flat)
    np.savez(tmp_path / "mask.npz", mask=mask)
    files = {"dark": tmp_path / "dark.npy", "flat": tmp_path / "flat.tif", "mask": tmp_path / "mask.npz"}
    flags = {"centre_y": ROW, "centre_x": COLUMN, "turn_deg": 90, "flip": "rows", "bin": 2, "size": 16, "drop": "2-3"}
    assert _prepare(raw, tmp_path / "out.npz", *_positions(raw), **files, **flags) == 0

    kept = np.delete(np.arange(scan.n_patterns), [2, 3])
    level = flat / flat[mask == 0].mean()
    clean = (_on_detector(scan.patterns)[kept] - dark.mean(axis=0, dtype=np.float64)) / level
    clean = np.where(mask, 0.0, np.maximum(clean, 0.0))
    turned = np.flip(np.rot90(clean, axes=(1, 2)), 1)
    y, x = 110 - 1 - (110 - 1 - COLUMN), ROW
    top, left = (round(place - 8 * 2 - 0.5) for place in (y, x))
    window = turned[:, top : top + 32, left : left + 32]
    sums = window.reshape(len(kept), 16, 2, 16, 2).sum(axis=(2, 4))
    made = _read(tmp_path / "out.npz", _of(scan, 16))
    assert made.bad_pixels is not None
    np.testing.assert_allclose(made.patterns, np.where(made.bad_pixels, 0.0, sums), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(np.ptp(made.positions_px, axis=0), np.ptp(scan.positions_px[kept], axis=0), rtol=1e-9)


def _of(scan: Scan, size: int) -> Scan:
    middle = scan.N // 2
    return simulate(SimulationConfig(N=size, object_size_px=40, step_px=8.0, seed=4)) if size != middle * 2 else scan


def test_settings_come_from_a_file_and_flags_outrank_it(scan: Scan, raw: Path, tmp_path: Path) -> None:
    """The same names with underscores or hyphens; an unknown one is refused with what it resembles."""
    config = tmp_path / "prepare.toml"
    text = f'size = 16\ndrop = "0"\npositions = "{raw}"\ncolumns = "motors/x,motors/y"\nunit = "um"\n'
    config.write_text(text + "".join(f"{name} = {value}\n" for name, value in LENGTHS.items()))
    assert _prepare(raw, tmp_path / "out.npz", config=config, size=N) == 0

    made = _read(tmp_path / "out.npz", scan)
    np.testing.assert_array_equal(made.patterns, scan.patterns[1:])


def test_an_unknown_setting_is_refused(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, with the near one."""
    (tmp_path / "prepare.toml").write_text("sise = 16\n")

    assert _prepare(raw, tmp_path / "out.npz", config=tmp_path / "prepare.toml") == 2
    said = capsys.readouterr().err
    assert "sise: expected a setting of ptycho prepare, found another name; did you mean size?" in said


@pytest.mark.parametrize("suffix", ["csv", "txt", "npz"])
def test_positions_come_as_columns(suffix: str, scan: Scan, raw: Path, tmp_path: Path) -> None:
    """With commas and a heading, with blanks and none, or as arrays; scaled, turned and mirrored."""
    y, x = scan.positions_px.T
    table, columns = tmp_path / f"positions.{suffix}", "sx,sy"
    if suffix == "csv":
        lines = [f"{n},{a!r},{b!r}" for n, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True))]
        table.write_text("frame,sx,sy\n" + "\n".join(lines))
    elif suffix == "txt":
        np.savetxt(table, np.stack([x, y], axis=1))
        columns = "0,1"
    else:
        np.savez(table, sx=x, sy=y)
    flags = {"positions": table, "columns": columns, "unit": "px", "size": N, "positions_flip": "columns"}
    assert _prepare(raw, tmp_path / "out.npz", **flags, positions_scale=2) == 0

    made = _read(tmp_path / "out.npz", scan).positions_px
    spread = made - (made.min(axis=0) + made.max(axis=0)) / 2
    wanted = scan.positions_px - (scan.positions_px.min(axis=0) + scan.positions_px.max(axis=0)) / 2
    np.testing.assert_allclose(spread, wanted * (2, -2), atol=1e-9)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"size": 8}, "--size: expected a whole number from 16 to 2048, found 8"),
        ({"flip": "over"}, "--flip: expected one of none, rows, columns, both, found 'over'"),
        ({"energy_ev": 1.0, "voltage_v": 1.0}, "--voltage-v: expected no other than energy_ev"),
        ({"unit": "furlong per"}, "--unit: expected a unit that m can be made of"),
        ({"unit": "nm"}, "expected positions in object pixels"),
        ({"columns": "motors/x,motors/z"}, "motors/z: expected a column of positions"),
        ({"distance_m": 2000}, "a distance from 0.0001 to 200 m, found 2000 m; it may be in mm"),
        ({"frames": "motors/x"}, "expected a stack of frames under motors/x"),
        ({"drop": "0-999"}, "--drop: expected a frame that is left, found none"),
        ({"centre_y": 500, "centre_x": 3}, "a place inside of 90 x 110 px"),
    ],
)
def test_what_cannot_be_done_is_refused(
    flags: dict[str, object], words: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one message with the flag, and nothing is written."""
    out = tmp_path / "out.npz"

    assert _prepare(raw, out, *_positions(raw), **flags) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_without_positions_or_lengths_the_flags_are_named(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever lacks something learns how to give it."""
    assert _prepare(raw, tmp_path / "out.npz") == 2
    assert "--positions FILE --columns X,Y --unit UNIT" in capsys.readouterr().err
    assert _prepare(raw, tmp_path / "out.npz", positions=raw, columns="motors/x,motors/y", unit="um") == 2
    assert "--distance-m and --detector-pixel-m, or --pixel-m" in capsys.readouterr().err


def test_a_cxi_file_is_prepared_with_all_that_it_says(tmp_path: Path) -> None:
    """Positions, lengths, mask and probe come along, and a dark frame is taken off."""
    path = save_cxi(tmp_path / "scan.cxi")
    truth = experiment()
    counts = np.pad(truth.counts, ((0, 0), (4, 0), (0, 3)))

    def widened(file: h5py.File) -> None:
        replace(file, "entry_1/instrument_1/detector_1/data", counts + np.uint16(7))
        replace(file, "entry_1/instrument_1/detector_1/mask", np.zeros(counts.shape[1:], np.uint8))
        file["entry_1/instrument_1/detector_1/data_dark"] = np.full(counts.shape[1:], 7.0)

    flags = {"centre_y": 4 + BEAMLINE_N // 2, "centre_x": BEAMLINE_N // 2, "size": BEAMLINE_N}
    assert _prepare(changed(path, widened), tmp_path / "out.npz", **flags) == 0

    made = read_scan(tmp_path / "out.npz", probe=lambda _: truth.probe, detector_check="off")
    np.testing.assert_array_equal(made.patterns, truth.counts)
    np.testing.assert_allclose(made.positions_px, truth.positions_m / PIXEL_M, rtol=1e-9)
    assert made.domain == "counts"


def test_a_probe_is_cut_as_its_patterns_are(tmp_path: Path) -> None:
    """A probe whose far field lies inside the window gives the same light in it."""
    scan = simulate(SimulationConfig(N=48, object_size_px=80, step_px=9.0, photons=1e6, seed=2))
    np.savez(
        tmp_path / "scan.npz",
        diff3d=scan.patterns,
        xcoords=scan.positions_px[:, 1],
        ycoords=scan.positions_px[:, 0],
        probeGuess=scan.probe,
    )
    assert _prepare(tmp_path / "scan.npz", tmp_path / "out.npz", size=32, centre_y=24, centre_x=24) == 0

    made = read_scan(tmp_path / "out.npz", detector_check="off")
    np.testing.assert_array_equal(made.patterns, scan.patterns[:, 8:40, 8:40])
    far = np.abs(np.fft.fftshift(np.fft.fft2(made.probe, norm="ortho"), axes=(1, 2)))
    before = np.abs(np.fft.fftshift(np.fft.fft2(scan.probe, norm="ortho"), axes=(1, 2)))[:, 8:40, 8:40]
    np.testing.assert_allclose(far, before, rtol=1e-3, atol=1e-3 * before.max())
    np.testing.assert_allclose(np.ptp(made.positions_px, axis=0), np.ptp(scan.positions_px, axis=0) * 32 / 48)


def test_a_file_that_is_no_detector_s_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, nothing, and a format of several files as a target."""
    (tmp_path / "text").write_text("no frames")
    assert _prepare(tmp_path / "text", tmp_path / "out.npz") == 2
    assert _prepare(tmp_path / "missing", tmp_path / "out.npz") == 2
    assert _prepare(tmp_path / "text", tmp_path / "out.cxi") == 2
    said = capsys.readouterr().err
    assert "expected a stack of frames (n, H, W) of real numbers" in said
    assert "ptycho convert makes other formats of it" in said


def test_the_wavelength_of_electrons_is_relativistic() -> None:
    """As tables have it at 100, 200 and 300 kV."""
    for voltage, picometres in ((1e5, 3.7014), (2e5, 2.5079), (3e5, 1.9687)):
        assert wavelength_from_voltage(voltage_v=voltage) == pytest.approx(picometres * 1e-12, rel=1e-4)


def test_a_dense_scan_of_a_small_field_is_believed_once_its_unit_is_said(
    scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Positions within a fiftieth of a pattern look like another unit; said to be pixels, they are, from then on."""
    y, x = scan.positions_px.T * 0.08
    pad = ((0, 0), (48, 48), (48, 48))
    patterns, probe = np.pad(scan.patterns, pad), np.pad(scan.probe, pad)
    np.savez(tmp_path / "small.npz", xcoords=x, ycoords=y, diff3d=patterns, probeGuess=probe)
    assert main(["inspect", str(tmp_path / "small.npz"), "--json"]) == 0
    assert "ptycho prepare --positions FILE --unit UNIT takes them in the unit that you say" in capsys.readouterr().out

    flags = {"positions": tmp_path / "small.npz", "columns": "xcoords,ycoords", "unit": "px"}
    assert _prepare(tmp_path / "small.npz", tmp_path / "out.npz", **flags, centre_y=64, centre_x=64, size=128) == 0
    made = read_scan(tmp_path / "out.npz", detector_check="off")
    np.testing.assert_allclose(made.positions_px, np.stack([y, x], axis=1), rtol=1e-9)


def test_the_beam_is_looked_for_all_over_the_scan(scan: Scan, tmp_path: Path) -> None:
    """A scan whose first frames are dark has its beam and its masked pixels in the others."""
    frames = np.concatenate([np.zeros((200, 90, 110), scan.patterns.dtype), _on_detector(scan.patterns)])
    np.save(tmp_path / "frames.npy", frames)
    grid = np.stack(np.meshgrid(np.arange(len(frames)), [0.0]), axis=-1).reshape(-1, 2)
    np.savez(tmp_path / "positions.npz", x=grid[:, 0], y=grid[:, 1])
    flags = {"positions": tmp_path / "positions.npz", "unit": "px", "size": N, "drop": "0-199"}

    assert _prepare(tmp_path / "frames.npy", tmp_path / "out.npz", **flags) == 0
    np.testing.assert_array_equal(_read(tmp_path / "out.npz", scan).patterns, scan.patterns)
