"""Whether `ptycho infer` makes a finish where nobody says; `ptycho live` goes by the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import pytest

from ptycho_adapters.cli import main
from ptycho_adapters.command_line import default_finish
from ptycho_adapters.command_line.inference import ReadScan, read_for
from ptycho_adapters.commands import infer
from ptycho_adapters.crew import Crew
from ptycho_adapters.files import write_scan
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright scan of 16 patterns."""
    path: Path = tmp_path_factory.mktemp("scan") / "scan.npz"
    write_scan(simulate(SimulationConfig(object_size_px=100, step_px=9, seed=1, photons=1e6)), path)
    return path


def steps(scan: Path, folder: Path, *flags: str) -> float | None:
    """How many steps a finish made; None where there was none."""
    line = f"infer --test-data {scan} --output-dir {folder} --probe-rounds 0 --accelerator cpu"
    assert main([*line.split(), *flags]) == 0
    made: float | None = json.loads((folder / "summary.json").read_text())["figures"].get("finish_steps")
    return made


def test_a_small_scan_is_finished_unless_it_is_told_not_to_be(scan: Path, tmp_path: Path) -> None:
    """By the shipped network, whose errors are known."""
    made = steps(scan, tmp_path / "finished")

    assert made is not None
    assert made > 0
    assert steps(scan, tmp_path / "asked", "--finish", "2") == 2.0
    assert steps(scan, tmp_path / "pass", "--finish", "none") is None


def test_a_large_scan_is_not_and_that_is_said(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor one whose patterns stay in their file; who asks for a finish gets it, and error bars bring it along."""
    assert steps(scan, tmp_path / "mapped", "--memory-map", str(tmp_path / "map")) is None
    monkeypatch.setattr(default_finish, "CHEAP_SAMPLES", 16 * 64**2 - 1)

    assert steps(scan, tmp_path / "pass") is None
    assert "the pass alone" in capsys.readouterr().err
    assert steps(scan, tmp_path / "asked", "--finish", "auto") is not None
    assert steps(scan, tmp_path / "bars", "--error-bars") is not None


@pytest.mark.parametrize("why", ["law", "crew"])
def test_no_finish_is_made_by_default_that_could_not_be_weighed_or_shared(
    why: str, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network from random weights has no law of its errors, and of several processes one alone would finish."""

    def read(*given: Any) -> ReadScan:
        ready = read_for(*given)
        return attrs.evolve(ready, model=attrs.evolve(ready.model, prior_law=None)) if why == "law" else ready

    monkeypatch.setattr(infer, "read_for", read)
    if why == "crew":
        monkeypatch.setattr(default_finish, "crew_of", lambda _: Crew(count=2))

    assert steps(scan, tmp_path) is None
