"""Several processes on one run: how they find each other, and what they say to each other."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from lightning import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, distributed

from ptycho_adapters.crew import Crew, crew_of, started_crew
from ptycho_adapters.torch_backend.execution import accelerator_name, pick_device
from ptycho_core.errors import ConfigError, Problem, PtychoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.config import PyTorchExecutionConfig

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long one process waits for what another is still at; one that has ended is noticed by its closed connection."""
FOUND_BY_US = ("auto", "ddp")
"""Strategies whose processes are brought together before the work begins, so that they share all of it."""
_KILLED = (
    "ptycho: another process of this run has ended before its time, so the whole run ends; "
    "a training goes on from its last checkpoint with --resume auto\n"
)
_LOST = ("connection", "gloo", "nccl", "socket", "broken pipe", "timed out", "store")


class ProcessLostError(PtychoError):
    """Another process of the run has ended."""


class _StartedTogether(LightningEnvironment):
    """Processes that stay one run after a training: a reconstruction may follow, and the first one writes the files."""

    def teardown(self) -> None:
        """Leave the environment as it is, which says who is who."""


def present_crew() -> Crew:
    """Return the processes that are connected with this one, itself included."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Crew()
    count = distributed.get_world_size()
    launched = crew_of(count)
    on_machine = launched.on_machine if launched.count == count else count
    return Crew(rank=distributed.get_rank(), count=count, on_machine=on_machine)


def joined(execution: PyTorchExecutionConfig) -> Crew:
    """Bring the processes of a run together; those that nobody has started yet, Lightning starts by the same command.

    Args:
        execution: says on how many devices.

    Raises:
        ConfigError: another number of processes was started than was asked for, or the strategy cannot be had so.
    """
    present = present_crew()
    if present.count > 1:
        return present
    devices = device_count(execution)
    launched = crew_of(devices)
    if launched.count == 1 and devices == 1:
        return launched
    _check(execution, launched)
    _say_why_processes_are_killed()
    try:
        Fabric(
            accelerator=accelerator_name(execution.accelerator),
            devices=launched.on_machine if launched.count > 1 else devices,
            num_nodes=launched.machines,
            strategy=DDPStrategy(timeout=PATIENCE),
            plugins=[*environment_plugins()],
        ).launch()
    except (MisconfigurationException, ValueError) as error:
        found = f"accelerator={execution.accelerator!r}, devices={devices!r}: {error}"
        problem = Problem(path="devices", expected="what this machine can do", found=found)
        raise ConfigError("execution", [problem]) from error
    return present_crew()


def device_count(execution: PyTorchExecutionConfig) -> int:
    """Number of devices that a run is meant to have on each machine; `auto` takes every GPU, or the processor."""
    if execution.devices != "auto":
        return execution.devices
    return torch.cuda.device_count() if pick_device(execution.accelerator).type == "cuda" else 1


def _check(execution: PyTorchExecutionConfig, launched: Crew) -> None:
    devices, strategy = execution.devices, execution.strategy
    problems = []
    if launched.count > 1 and devices not in (1, "auto", launched.on_machine):
        expected = f"{launched.on_machine}, as many processes as were started on each machine"
        problems.append(Problem(path="devices", expected=expected, found=repr(devices), fix="leave it out"))
    if not strategy.startswith(FOUND_BY_US) or strategy.endswith(("spawn", "fork", "notebook")):
        expected = "auto or ddp with more than one process"
        problems.append(Problem(path="strategy", expected=expected, found=repr(strategy)))
    if problems:
        raise ConfigError("execution", problems)


class _LostProcess(logging.Handler):
    """Says in our words what Lightning says, at a level that nobody sees, before it kills the whole run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write to standard error at once: there is no later."""
        if "terminated with code" in record.getMessage():
            sys.stderr.write(_KILLED)
            sys.stderr.flush()


def _say_why_processes_are_killed() -> None:
    launcher = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    launcher.setLevel(logging.INFO)
    launcher.propagate = False
    launcher.handlers = [_LostProcess(level=logging.INFO)]


def environment_plugins() -> list[LightningEnvironment]:
    """Return what makes Lightning take the processes as they were started, whatever else a job was given."""
    ours = started_crew().count > 1 and not TorchElasticEnvironment.detect()
    return [_StartedTogether()] if ours else []


def summed(values: Tensor, crew: Crew) -> Tensor:
    """Add tensors up over all processes, in place; each gets the same bits."""
    if crew.count > 1:
        distributed.all_reduce(values)
    return values


def told_by_the_first(value: T, crew: Crew) -> T:
    """Give every process what the first one has.

    Args:
        value: of the first process; that of the others is not looked at.
        crew: all of them.
    """
    if crew.count == 1:
        return value
    told: list[T] = [value]
    distributed.broadcast_object_list(told, src=0)
    return told[0]


def heard(kind: type[T], crew: Crew) -> T:
    """Give what the first process tells, to one of the others.

    Args:
        kind: of what it tells.
        crew: all of them.

    Raises:
        TypeError: it told something else: the processes do not do the same.
    """
    told: object = told_by_the_first(None, crew)
    if not isinstance(told, kind):
        message = f"expected a {kind.__name__} from the first process, found a {type(told).__name__}"
        raise TypeError(message)
    return told


@contextmanager
def lost_processes_named(crew: Crew) -> Iterator[None]:
    """Say it clearly where the work fails because another process has ended.

    Raises:
        ProcessLostError: it has.
    """
    try:
        yield
    except RuntimeError as error:
        first_line = " ".join(str(error).split())
        if crew.count == 1 or not any(word in first_line.lower() for word in _LOST):
            raise
        message = (
            f"process {crew.rank} of {crew.count} (from 0) lost its connection with another one, which has ended or "
            f"cannot be reached, so this one ends too; a training goes on from its last checkpoint with --resume auto "
            f"({first_line[:200]})"
        )
        raise ProcessLostError(message) from error
