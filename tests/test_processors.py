"""Processors: what others leave of them, what control groups allow, and how many threads follow from that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs
import pytest
import torch
from torch import nn

from ptycho_adapters.machine import ProcessorTimes, ProcessorWatch
from ptycho_adapters.torch_backend import execution
from ptycho_adapters.torch_backend.execution import ThreadsByLoad, cpu_threads
from ptycho_core.processors import Processors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDLE = Processors(cores=8, quota_cores=None, busy_cores=0.0)


def _times(*moments: tuple[float, float, float]) -> Iterator[ProcessorTimes]:
    return (ProcessorTimes(at_s=at, busy_s=busy, own_s=own) for at, busy, own in moments)


def test_the_work_of_others_is_what_is_not_our_own(tmp_path: Path) -> None:
    """Busy seconds per second between two looks, without this process' own; never below none."""
    moments = _times((0, 100, 5), (2, 107, 8), (3, 108, 9.5), (3, 108, 9.5))
    watch = ProcessorWatch(lambda: next(moments), groups=tmp_path, own_group=tmp_path / "none")

    assert [watch.look().busy_cores for _ in range(3)] == [2.0, 0.0, 0.0]


def test_this_machine_has_cores() -> None:
    """As many as the process may run on, of which others use from none to about all."""
    found = ProcessorWatch().look()

    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.busy_cores >= 0
    assert found.quota_cores is None or found.quota_cores > 0


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({}, None),
        ({"batch/job/cpu.max": "max 100000"}, None),
        ({"batch/job/cpu.max": "150000 100000"}, 1.5),
        ({"batch/cpu.max": "400000 100000", "batch/job/cpu.max": "max 100000"}, 4.0),
        ({"batch/job/cpu.max": "nonsense"}, None),
        ({"cpu/slurm/cpu.cfs_quota_us": "-1", "cpu/slurm/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/slurm/cpu.cfs_quota_us": "250000", "cpu/slurm/cpu.cfs_period_us": "100000"}, 2.5),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "batch/cpu.max": "100000 100000"}, 0.5),
    ],
)
def test_control_groups_limit_the_time(tmp_path: Path, files: dict[str, str], allowed: float | None) -> None:
    """The least of what each group that the process is in allows, of either version; no limit is none."""
    own = tmp_path / "own"
    own.write_text("0::/batch/job\n4:cpu,cpuacct:/slurm\n3:memory:/other\n", encoding="ascii")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n", encoding="ascii")

    assert ProcessorWatch(groups=tmp_path, own_group=own).look().quota_cores == allowed


@pytest.fixture
def free_number(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment that says nothing about threads, and torch with four of them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("free_number")
def test_threads_follow_the_load() -> None:
    """It looks after a moment, then every second, and gives each free core a thread, at most as many as wanted."""
    busy, clock, used = [7.0, 5.5, 0.0], [0.0], []
    follow = ThreadsByLoad(4, lambda: attrs.evolve(IDLE, busy_cores=busy.pop(0)), lambda: clock[0])

    for clock[0] in (0.1, 0.3, 0.9, 1.3, 2.0, 2.3):
        follow(None, None)
        used.append(torch.get_num_threads())

    assert used == [4, 1, 1, 2, 2, 4]
    assert busy == []


@pytest.mark.usefixtures("free_number")
def test_a_run_takes_the_threads_that_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a pass of a network, in a run that nobody gave a number; afterwards torch has its own again."""
    monkeypatch.setattr(execution, "_FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(ProcessorWatch, "look", lambda _self: attrs.evolve(IDLE, busy_cores=6.5))
    layer, used = nn.Linear(2, 2), []

    def pass_by() -> None:
        layer(torch.ones(1, 2))
        used.append(torch.get_num_threads())

    pass_by()
    with cpu_threads(None):
        pass_by()
    pass_by()
    with cpu_threads(3):
        pass_by()
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with cpu_threads(None):
        pass_by()

    assert used == [4, 1, 4, 3, 4]
