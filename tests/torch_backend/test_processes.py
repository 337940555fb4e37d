"""Two processes give what one gives: weights after the same steps, and the object."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ptycho_adapters.crew import Crew, crew_of, started_crew
from ptycho_adapters.torch_backend.data.groups import GroupsOfScans

SCRIPT = Path(__file__).with_name("shared_run.py")


def _outcome(devices: int, folder: Path) -> list[dict[str, torch.Tensor]]:
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(devices), str(folder)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("outcome_*.pt"))]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """On the same groups in every step, and on a canvas each, to the rounding of sums in float32."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    (alone,), together = _outcome(1, folders[0]), _outcome(2, folders[1])

    assert len(together) == 2
    for each in together:
        assert each.keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(each[name], expected, rtol=5e-6, atol=1e-6, msg=name)
        assert all(torch.equal(each[name], together[0][name]) for name in each)


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
