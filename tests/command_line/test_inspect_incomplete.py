"""`ptycho inspect` answers, whatever a file lacks."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from beamline_samples import DETECTOR, N_PATTERNS, PIXEL_M, SOURCE, N, changed, experiment, replace, save_cxi, save_ptyr
from ptycho_adapters.cli import main

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
