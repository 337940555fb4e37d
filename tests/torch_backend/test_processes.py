"""Two processes give what one gives: weights after the same steps, and the object."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import interrupted_run
from ptycho_adapters.crew import Crew, crew_of, started_crew
from ptycho_adapters.torch_backend.data.groups import GroupsOfScans
from shared_run import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[1] / "shared_run.py"
SOURCE = Path(__file__).parents[2] / "src"
PATIENCE_S = 900
"""After which a test gives up; nothing is measured by it."""


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **more}


def _free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@contextmanager
def _ended_in_time(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        for each in processes:
            each.kill()
            each.wait()


def _job(count: int, *arguments: str) -> list[tuple[int, str]]:
    """Exit codes of the tasks of a job of SLURM that runs a script, and what they said."""
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "night", "SLURM_NTASKS": str(count), "SLURM_NNODES": "1"}
    job |= {"SLURM_NTASKS_PER_NODE": str(count), "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost"}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    command = [sys.executable, "-W", "ignore", *arguments]
    tasks = [
        subprocess.Popen(
            command,
            env=_environment(**job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    with _ended_in_time(*tasks):
        said = [task.communicate(timeout=PATIENCE_S)[1] for task in tasks]
    return [(task.returncode, each) for task, each in zip(tasks, said, strict=True)]


def _tasks(count: int, folder: Path) -> list[dict[str, torch.Tensor]]:
    """What the tasks of a job make of the script, all but the first of which are killed in the end."""
    ended = _job(count, str(SCRIPT), str(count), str(folder))
    assert [code for code, _ in ended] == [0] + [-signal.SIGKILL] * (count - 1), ended
    return [torch.load(folder / f"outcome_{rank}.pt", weights_only=True) for rank in range(count)]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """On the same groups in every step, two scans in turn, and on a canvas each; in double precision throughout.

    Where one is killed, the other one says so and does not wait.
    """
    together, alone = _tasks(2, tmp_path), outcome(1, tmp_path)

    for each in together:
        assert each.keys() == alone.keys()
        for name, expected in alone.items():
            assert expected.dtype == torch.float64
            assert float((each[name] - expected).norm()) <= 1e-10 * float(expected.norm()), name
        assert all(torch.equal(each[name], together[0][name]) for name in each)
    assert "process 0 of 2 (from 0) lost its connection with another one" in (tmp_path / "lost.txt").read_text()


def test_two_processes_that_were_killed_within_an_epoch_go_on(tmp_path: Path) -> None:
    """They end with weights and losses, by epoch and by step, of a run that nobody disturbed."""
    script = str(SCRIPT.with_name("interrupted_run.py"))
    killed = _job(2, script, "2", str(tmp_path), "killed")
    assert [code for code, _ in killed] == [-signal.SIGKILL] * 2, killed

    resumed = _job(2, script, "2", str(tmp_path), "resumed")

    assert [code for code, _ in resumed] == [0, 0], resumed
    found = torch.load(tmp_path / "outcome_0.pt", weights_only=True)
    alone = interrupted_run.trained(1, tmp_path / "alone")
    assert alone["steps"][0::2].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert (int(alone.pop("made")), int(found["made"])) == (6, 2)
    for name, expected in alone.items():
        assert float((found[name] - expected).norm()) <= 1e-10 * float(expected.norm()), name


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("groups", [1, 2, 4, 7])
def test_parts_of_a_batch_make_its_mean(count: int, groups: int) -> None:
    """Weighted means of the parts, averaged over the processes, are the mean of all; nobody is without a group."""
    values = torch.arange(10.0).square()
    rows = list(range(groups))
    data = [GroupsOfScans([values[:, None].int().numpy()], Crew(rank=rank, count=count)) for rank in range(count)]
    parts = [each[0, rows] for each in data]

    mean = sum(part.weight * part.indices.double().mean() for part in parts) / count
    assert float(mean) == pytest.approx(float(values[:groups].double().mean()))
    assert sum(part.counted for part in parts) == groups
    assert all(len(part.indices) for part in parts)


def test_who_started_the_processes_says_it() -> None:
    """`torchrun`, Lightning, and SLURM where several devices were asked for; else a process is alone."""
    torchrun = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "night"}

    assert started_crew(torchrun) == Crew(rank=5, count=8, on_machine=4)
    assert started_crew(torchrun).machines == 2
    assert started_crew({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}) == Crew(rank=1, count=2, on_machine=2)
    assert crew_of(2, slurm) == Crew(rank=3, count=4, on_machine=2)
    assert crew_of(1, slurm) == crew_of(2, {}) == Crew()
