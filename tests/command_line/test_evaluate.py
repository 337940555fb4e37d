"""`ptycho evaluate`: several results side by side, and halves of a scan without a model of one's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from PIL import Image

from cli_samples import tiny_scan
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_scan, write_scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A known object, and results of one name from two nights, of which the second is the worse one."""
    rng = np.random.default_rng(3)
    smooth = np.fft.ifft2(np.fft.fft2(rng.normal(size=(96, 96))) * np.exp(-np.hypot(*np.indices((96, 96))) / 8)).real
    truth = np.exp(1j * smooth / smooth.std())
    np.savez(tmp_path / "truth.npz", object=truth.astype(np.complex64))
    for night, noise in (("monday", 0.05), ("tuesday", 0.5)):
        wrong = truth + noise * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))
        (tmp_path / night).mkdir()
        np.savez(tmp_path / night / "own.npz", object=wrong.astype(np.complex64))
    return tmp_path


def evaluate(folder: Path, *results: str) -> int:
    paths = [str(folder / each) for each in results]
    return main(["evaluate", *paths, "--reference", str(folder / "truth.npz"), "--output-dir", str(folder / "judged")])


def test_several_results_are_set_side_by_side(objects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One table with a column for each, one picture, and for each what `evaluate` writes of one alone.

    Folders of two nights hold results of one name, which the folders tell apart.
    """
    assert evaluate(objects, "monday/own.npz", "tuesday/own.npz") == 0

    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.startswith("  ")}
    assert rows["monday-own"] == ["tuesday-own"]
    figures = json.loads((objects / "judged" / "side_by_side.json").read_text())
    assert figures["monday-own"]["phase_correlation"] > figures["tuesday-own"]["phase_correlation"]
    for name, shown in zip(("monday-own", "tuesday-own"), rows["phase_correlation"], strict=True):
        alone = json.loads((objects / "judged" / name / "evaluation.json").read_text())["figures"]
        assert alone == figures[name]
        assert float(shown) == pytest.approx(alone["phase_correlation"], abs=1e-3)
        assert (objects / "judged" / name / "report.html").is_file()
    with Image.open(objects / "judged" / "side_by_side.png") as picture:
        assert picture.width > picture.height


def test_one_result_twice_is_refused(objects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody compares a result with itself on purpose."""
    assert evaluate(objects, "monday/own.npz", "monday/own.npz") == 2
    assert "expected each one once" in capsys.readouterr().err


def test_halves_need_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The package's own network reconstructs both, and the evaluation says so, and what was put right in which half."""
    scan = tiny_scan(tmp_path)
    given = read_scan(scan)
    write_scan(attrs.evolve(given, patterns=np.roll(given.patterns, (4, 3), axis=(1, 2))), scan)

    assert main(["evaluate", str(scan), "--halves", "--output-dir", str(tmp_path / "halves"), "--quiet"]) == 0

    said = capsys.readouterr().err
    assert "network and stitching" not in said
    moved = "the direct beam is off the middle of the patterns by (4, 3) px"
    for half in ("first", "second"):
        assert f"warning: {scan}: {half} half: {moved}" in said
    found = json.loads((tmp_path / "halves" / "evaluation.json").read_text())
    assert found["inputs"]["model_path"].endswith("generalist.safetensors")
    assert found["figures"]["phase_correlation"] > 0.5
    told = [each["text"].split(", which")[0] for each in found["findings"] if each["kind"] == "beam_moved"]
    assert told == [f"first half: {moved} (y, x)", f"second half: {moved} (y, x)"]
    assert main(["evaluate", str(scan), "--output-dir", str(tmp_path / "halves")]) == 2
    assert "--halves" in capsys.readouterr().err
    assert main(["evaluate", str(scan), str(scan), "--halves", "--output-dir", str(tmp_path / "halves")]) == 2
    assert "expected one with --halves" in capsys.readouterr().err
