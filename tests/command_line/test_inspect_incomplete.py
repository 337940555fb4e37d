"""`ptycho inspect` answers, whatever a file lacks."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import pytest

from beamline_samples import DETECTOR, N_PATTERNS, PIXEL_M, SOURCE, N, changed, experiment, replace, save_cxi, save_ptyr
from ptycho_adapters.cli import main
from ptycho_adapters.files import write_scan
from ptycho_adapters.wording import length_in_words
from ptycho_core.measurement.geometry import wavelength_from_voltage
from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path


def _sheet(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, dict[str, dict[str, object]]]:
    assert main(["inspect", str(path), "--json"]) == 0
    sheet: dict[str, dict[str, dict[str, object]]] = json.loads(capsys.readouterr().out)
    return sheet


def test_a_file_without_a_probe_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is there is named, and what is missing with the flag that supplies it; exit code 0."""
    sheet = _sheet(capsys, save_cxi(tmp_path / "scan.cxi", probe=False))

    assert str(sheet["kind"]) == "incomplete scan"
    assert sheet["facts"]["frames"]["number"] == N_PATTERNS
    assert sheet["facts"]["frames"]["size_px"] == [N, N]
    assert sheet["facts"]["positions"]["number"] == N_PATTERNS
    assert sheet["facts"]["geometry"]["expected_object_pixel_m"] == pytest.approx(PIXEL_M)
    (missing,) = sheet["missing"]
    assert missing.startswith("probe: expected an illumination, found none in the file; give one with")
    assert missing.endswith("--probe FILE or --probe-model")
    assert str(sheet["command"]) == f"ptycho convert {tmp_path / 'scan.cxi'} OUT.npz --probe FILE"


def test_what_cannot_be_used_comes_with_the_command_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rectangular frames, no energy: the command says the size and asks for the number, and works once it is there."""
    path = save_cxi(tmp_path / "a scan.cxi")

    def spoil(file: h5py.File) -> None:
        replace(file, f"{DETECTOR}/data", np.pad(experiment().counts, ((0, 0), (5, 2), (0, 6))))
        del file[f"{DETECTOR}/mask"], file[f"{SOURCE}/energy"]

    assert main(["inspect", str(changed(path, spoil))]) == 0
    said = capsys.readouterr().out
    assert "crop or pad them: ptycho prepare" in said
    line = said.splitlines()[-1].strip()
    assert line == f"ptycho prepare '{path}' OUT.npz --size 22 --energy-ev NUMBER"
    typed = line.replace("OUT.npz", str(tmp_path / "out.npz")).replace("NUMBER", "8000")
    assert main([*shlex.split(typed)[1:], "--quiet"]) == 0


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_bare_frames_are_described(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but a stack: its size, where the light is, and everything that has to be given."""
    path = tmp_path / f"frames.{suffix}"
    frames = np.zeros((5, 40, 30), dtype=np.uint16)
    frames[:, 18:23, 9:14] = 100
    if suffix == "npy":
        np.save(path, frames)
    elif suffix == "npz":
        np.savez(path, frames=frames)
    else:
        with h5py.File(path, "w") as file:
            file["frames"] = frames

    sheet = _sheet(capsys, path)
    assert sheet["facts"]["frames"]["size_px"] == [40, 30]
    assert sheet["facts"]["frames"]["centre_px"] == [20.0, 11.0]
    assert "--positions FILE --columns X,Y --unit UNIT --energy-ev NUMBER" in str(sheet["command"])


def test_a_result_of_ptypy_is_told_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Object, probe, pixel and positions of a `.ptyr`, which is no scan and lends its probe."""
    path = save_ptyr(tmp_path / "result.ptyr")
    sheet = _sheet(capsys, path)

    assert f"{sheet['kind']}, {sheet['format']}" == "result, PtyPy reconstruction"
    assert sheet["facts"]["object"]["size_px"] == [40, 50]
    assert sheet["facts"]["probe"]["pixel_size_m"] == pytest.approx(PIXEL_M)
    assert sheet["facts"]["positions"]["number"] == N_PATTERNS
    bare = save_cxi(tmp_path / "scan.cxi", probe=False)
    assert main(["inspect", str(bare), "--probe", str(path)]) == 0
    assert "missing" not in capsys.readouterr().out


def test_a_result_of_ptylab_is_told_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six axes, of which the last two are rows and columns."""
    path = tmp_path / "result.hdf5"
    with h5py.File(path, "w") as file:
        file["object"], file["probe"] = np.ones((1, 1, 1, 1, 40, 40), "c8"), np.ones((1, 1, 2, 1, N, N), "c8")
        file["dxp"], file["wavelength"], file["error"] = PIXEL_M, 1e-9, np.ones(30)
    sheet = _sheet(capsys, path)

    assert f"{sheet['kind']}, {sheet['format']}" == "result, PtyLab reconstruction"
    assert sheet["facts"]["probe"]["modes"] == 2
    assert sheet["facts"]["run"]["epochs"] == 30


def test_what_shows_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text and damage are no incomplete scans."""
    (tmp_path / "text").write_text("no scan")
    whole = save_cxi(tmp_path / "scan.cxi").read_bytes()
    (tmp_path / "cut.cxi").write_bytes(whole[: len(whole) // 2])

    for name in ("text", "cut.cxi"):
        assert main(["inspect", str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err


def test_an_incomplete_file_has_a_picture_and_a_beam(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its mean frame is drawn, and where the beam is and how that was found is said; without frames it is refused."""
    path = save_cxi(tmp_path / "scan.cxi", probe=False)
    picture = tmp_path / "mean.png"
    assert main(["inspect", str(path), "--picture", str(picture)]) == 0
    assert "middle of symmetry of the mean frame" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")

    with h5py.File(tmp_path / "list.h5", "w") as file:
        file["list"] = np.arange(3.0)
    assert main(["inspect", str(tmp_path / "list.h5"), "--picture", str(tmp_path / "none.png")]) == 2
    assert "--picture shows patterns" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_electrons_are_told_in_their_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Volts instead of electronvolts of photons, electrons per square angstrom, lengths in Å and pm."""
    scan = simulate(SimulationConfig(N=32, object_size_px=120, step_px=6.0, photons=1e4, seed=3))
    known = ScanMetadata(pixel_size_m=9.3e-10, wavelength_m=wavelength_from_voltage(voltage_v=3e5), distance_m=1.0)
    write_scan(attrs.evolve(scan, metadata=known), tmp_path / "scan.npz")

    facts = _sheet(capsys, tmp_path / "scan.npz")["facts"]
    assert facts["geometry"]["voltage_v"] == pytest.approx(3e5)
    assert "photon_energy_ev" not in facts["geometry"]
    per_px = float(scan.counts().sum()) / scan.n_patterns / 6.0**2  # of a grid of 6 px
    assert facts["flux"]["electrons_per_object_px"] == pytest.approx(per_px, rel=0.1)
    assert facts["flux"]["electrons_per_angstrom2"] == pytest.approx(per_px / 9.3**2, rel=0.1)
    assert main(["inspect", str(tmp_path / "scan.npz")]) == 0
    told = capsys.readouterr().out
    assert "(9.3 Å)" in told
    assert "(1.969 pm)" in told


@pytest.mark.parametrize(
    ("exchanged", "mirrored", "words"),
    [
        (False, False, "the same, up to half a turn"),
        (True, False, "rows and columns exchanged, up to half a turn; infer tries it"),
        (False, True, "one of them mirrored, up to half a turn; infer tries it"),
        (True, True, "turned by a quarter, up to half a turn; infer tries it"),
    ],
)
def test_the_patterns_tell_the_axes_of_the_positions(
    exchanged: bool, mirrored: bool, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with them is named before any reconstruction."""
    scan = simulate(SimulationConfig(N=32, object_size_px=90, step_px=6.0, photons=1e6, seed=3))
    y, x = scan.positions_px.T[:: -1 if exchanged else 1]
    positions = np.stack([y, -x if mirrored else x], axis=1)
    write_scan(attrs.evolve(scan, positions_px=positions), tmp_path / "scan.npz")

    told = _sheet(capsys, tmp_path / "scan.npz")["facts"]["positions"]["axes_of_positions_and_frames"]
    assert str(told).startswith(words)


@pytest.mark.parametrize(
    ("metres", "words"),
    [
        (1.9687e-12, "1.969 pm"),
        (4.9e-11, "49 pm"),
        (5.1e-11, "0.51 Å"),
        (9.3e-10, "9.3 Å"),
        (2.5e-9, "2.5 nm"),
        (1.2e-7, "120 nm"),
        (-3.4e-6, "-3.4 µm"),
        (75e-5, "750 µm"),
        (0.012, "12 mm"),
        (2.0, "2 m"),
        (0.0, "0 pm"),
    ],
)
def test_lengths_come_in_the_unit_of_their_kind(metres: float, words: str) -> None:
    """From the wavelength of electrons to the length of a hall."""
    assert length_in_words(metres) == words
