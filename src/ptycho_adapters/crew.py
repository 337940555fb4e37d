"""The processes that share one run, as whoever started them says it in the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN_TASKS = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES")
_INTERACTIVE = frozenset({"bash", "interactive"})  # jobs of SLURM that run what is typed, once


@attrs.frozen(kw_only=True)
class Crew:
    """The processes of one run, seen from one of them.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are, on all machines.
        on_machine: how many there are on each machine.
    """

    rank: int = 0
    count: int = 1
    on_machine: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """On how many machines they are."""
        return max(1, self.count // self.on_machine)

    def share(self, items: int) -> range:
        """Numbers of the items that are this process' part: neighbours, as many as the others' or one more or less."""
        return range(self.rank * items // self.count, (self.rank + 1) * items // self.count)


def started_crew(environment: Mapping[str, str] | None = None) -> Crew:
    """Return the processes that `torchrun` or Lightning has started; this one alone if none were.

    Args:
        environment: variables; those of this process by default.
    """
    said = os.environ if environment is None else environment
    # Lightning starts processes on one machine alone, where the local rank is the only one.
    rank = said.get("RANK", said.get("LOCAL_RANK"))
    if rank is None or "WORLD_SIZE" not in said:
        return Crew()
    count = int(said["WORLD_SIZE"])
    return Crew(rank=int(rank), count=count, on_machine=int(said.get("LOCAL_WORLD_SIZE", count)))


def crew_of(devices: int | str, environment: Mapping[str, str] | None = None) -> Crew:
    """Return the processes that a run with so many devices finds itself among.

    The tasks of a job of SLURM are one run if it was asked to have several devices; else each is a run of its own.

    Args:
        devices: that were asked for.
        environment: variables; those of this process by default.
    """
    said = os.environ if environment is None else environment
    found = started_crew(said)
    if found.count > 1 or str(devices) == "1" or "RANK" in said:
        return found
    if not set(_OWN_TASKS) <= said.keys() or said.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return found
    rank, count, machines = (int(said[name]) for name in _OWN_TASKS)
    return Crew(rank=rank, count=count, on_machine=max(1, count // machines))
