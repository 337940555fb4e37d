"""What the command line does in a process that is one of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ptycho_adapters.cli import WRONG_INPUT, main

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ["train", "--print-config", "--n-groups", "3"]


@pytest.fixture(params=["torchrun", "slurm"])
def second(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make this process the second of two; give the flags that it takes for that."""
    said = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    if request.param == "slurm":
        said = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "night"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    return ["--n-devices", "2"] if request.param == "slurm" else []


def test_the_second_process_is_silent_and_has_a_log_of_its_own(
    second: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said twice, and no file is written by two."""
    log = tmp_path / "run.jsonl"

    assert main([*SETTINGS, *second, "--log-file", str(log), "--log-level", "info"]) == 0

    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["run.1.jsonl"]


def test_the_task_of_a_job_is_a_run_of_its_own_where_one_device_is_asked_for(
    second: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks of SLURM may each do something else; processes of torchrun are one run."""
    assert main(SETTINGS) == 0

    assert bool(capsys.readouterr().out) == bool(second)


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes would write the same files."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert main(["inspect", "scan.npz"]) == WRONG_INPUT
    assert "expected one process, found 2; infer, reconstruct, train can be shared" in capsys.readouterr().err
