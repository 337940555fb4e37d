"""Frames of true and false, of complex numbers and of text: what becomes of each, in every kind of file."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan
from ptycho_core.errors import ScanFileError
from scan_arrays_sample import sample_arrays, save_npz

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

SUFFIXES = ("npy", "npz", "h5")
PLACED = ("--pixel-m", "1e-8", "--step-m", "3e-8", "--raster", "2,3", "--size", "16", "--quiet")
COUNTS = np.random.default_rng(0).poisson(4.0 * np.hanning(18)[1:-1, None] * np.hanning(18)[1:-1] + 0.1, (6, 16, 16))


def _save(path: Path, frames: AnyArray) -> Path:
    if path.suffix == ".npy":
        np.save(path, frames)
    elif path.suffix == ".npz":
        np.savez(path, frames=frames)
    else:
        with h5py.File(path, "w") as file:
            file["frames"] = frames.astype("S2") if frames.dtype.kind == "U" else frames
    return path


def _made(path: Path) -> AnyArray:
    return read_scan(path, probe=lambda _: np.ones((16, 16), np.complex64), detector_check="off").patterns


def _inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["inspect", str(path), "--json"]) == 0
    sheet: dict[str, object] = json.loads(capsys.readouterr().out)
    return sheet


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_true_is_one_count(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inspect describes the frames and gives the command; the preparation takes them for counts and says so."""
    frames, out = COUNTS > 1, tmp_path / "out.npz"
    path = _save(tmp_path / f"frames.{suffix}", frames)

    sheet = _inspected(path, capsys)
    assert "bool, taken for counts of 0 and 1" in json.dumps(sheet["facts"])
    assert str(sheet["command"]).startswith(f"ptycho prepare {path} OUT.npz")
    assert main(["prepare", str(path), str(out), "--centre-y", "8", "--centre-x", "8", *PLACED]) == 0

    assert "true and false taken for counts of 1 and 0" in capsys.readouterr().out
    np.testing.assert_array_equal(_made(out), frames.astype(np.uint16))


def test_frames_of_numbers_go_before_a_mask_for_each(tmp_path: Path) -> None:
    """A stack of true and false beside one of numbers is none of frames, however large its file has it."""
    with h5py.File(tmp_path / "both.h5", "w") as file:
        file["mask"], file["frames"] = np.ones((80, 16, 16), dtype=bool), COUNTS.astype(np.uint16)

    flags = ("--centre-y", "8", "--centre-x", "8", *PLACED)
    assert main(["prepare", str(tmp_path / "both.h5"), str(tmp_path / "out.npz"), *flags]) == 0

    np.testing.assert_array_equal(_made(tmp_path / "out.npz"), COUNTS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_complex_frames_are_refused_with_a_line_that_squares_them(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Waves are no measurement; the line of Python that is given makes counts of them, which are then taken."""
    waves = np.sqrt(COUNTS) * np.exp(0.3j * COUNTS)
    path = _save(tmp_path / f"a scan.{suffix}", waves)

    sheet = _inspected(path, capsys)
    assert "complex numbers" in json.dumps(sheet["missing"])
    assert sheet["command"] is None
    assert main(["prepare", str(path), str(tmp_path / "out.npz"), *PLACED]) == 2
    said = capsys.readouterr().err
    assert "expected real numbers, found complex numbers, (6, 16, 16) of complex128" in said
    line = shlex.split(re.findall(r"python -c .*", said)[0])
    subprocess.run([sys.executable, *line[1:]], check=True, cwd=tmp_path)

    np.testing.assert_allclose(np.load(tmp_path / "intensities.npy"), COUNTS, rtol=1e-9, atol=1e-9)
    assert main(["prepare", str(tmp_path / "intensities.npy"), str(tmp_path / "out.npz"), *PLACED]) == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_is_refused_as_text(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Digits are no numbers: both commands call them text."""
    path = _save(tmp_path / f"frames.{suffix}", COUNTS.astype(str))

    sheet = _inspected(path, capsys)
    assert "found text, (6, 16, 16) of" in json.dumps(sheet["missing"])
    assert main(["prepare", str(path), str(tmp_path / "out.npz"), *PLACED]) == 2
    assert "found text, (6, 16, 16) of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        (np.dtype(np.bool_), "ptycho prepare IN OUT.npz takes true and false for counts"),
        (np.dtype(np.complex64), "intensities are the squares of their magnitudes"),
        (np.dtype("U2"), "text is no measurement"),
    ],
)
def test_a_whole_scan_of_them_is_refused_with_what_to_do(kind: np.dtype[np.generic], fix: str, tmp_path: Path) -> None:
    """A reader of scans changes no numbers, and says what does."""
    arrays = sample_arrays()
    path = save_npz(tmp_path / "scan.npz", arrays | {"diff3d": np.asarray(arrays["diff3d"]).astype(kind)})

    with pytest.raises(ScanFileError, match=f"diff3d: expected real numbers .*{fix}"):
        read_scan(path)
