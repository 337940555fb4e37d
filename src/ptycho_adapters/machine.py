"""What the machine has to offer."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_core.processors import Processors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
# (limit, use, statistics with what the kernel can take back) of version 2 and version 1 of control groups.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

_WORK = ("user", "system", "irq", "softirq", "steal", "interrupt", "dpc")  # as psutil calls it on some system or other


def available_memory(*, groups: Path = _GROUPS, own_group: Path = _OWN_GROUP) -> int:
    """Return the bytes that this process can still take without swapping.

    That is what the system has free or can free, or less where a control group, such as a container's or a batch
    system's, allows less.

    Args:
        groups: where control groups are mounted.
        own_group: file that names the process' own groups.
    """
    import psutil  # noqa: PLC0415 - only who asks needs it

    free = int(psutil.virtual_memory().available)
    return max(0, min([free, *_allowed(groups, own_group)]))


def _allowed(groups: Path, own_group: Path) -> Iterator[int]:
    """Yield what each control group that the process is in still allows."""
    for folder in _folders(groups, own_group, "memory"):
        for limit_name, use_name, reclaimable_name in _FILES:
            limit, use = _number(folder / limit_name), _number(folder / use_name)
            if limit is not None and use is not None:
                yield limit - use + _statistic(folder / "memory.stat", reclaimable_name)


def _folders(groups: Path, own_group: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process' groups and of all groups that these are in, of version 2 and of one of 1."""
    try:
        lines = own_group.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    seen: set[Path] = set()
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        roots = {"": groups, controller: groups / controller}
        root = roots.get(controller if controller in controllers.split(",") else controllers)
        if root is not None:
            inner = root / path.lstrip("/")
            seen.update(folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))
    yield from sorted(seen or {groups, groups / controller})


@attrs.frozen(kw_only=True)
class ProcessorTimes:
    """Seconds at one moment, all since some moment before.

    Attributes:
        at_s: by the clock.
        busy_s: that the cores of this process have worked, for anybody; work of low priority, which gives way, is none.
        own_s: that they have worked for this process.
    """

    at_s: float
    busy_s: float
    own_s: float


class ProcessorWatch:
    """Sees what processors there are for this process, and what others have done with them since the last look.

    Args:
        times: reads the seconds; those of this machine by default.
        groups: where control groups are mounted.
        own_group: file that names the process' own groups.
    """

    def __init__(
        self,
        times: Callable[[], ProcessorTimes] | None = None,
        *,
        groups: Path = _GROUPS,
        own_group: Path = _OWN_GROUP,
    ) -> None:
        self._times = times or _processor_times
        self._groups, self._own_group = groups, own_group
        self._before = self._times()

    def look(self) -> Processors:
        """Return what there is now; others are as busy as they were between the last look and this one."""
        now, before = self._times(), self._before
        self._before = now
        others_s = (now.busy_s - before.busy_s) - (now.own_s - before.own_s)
        quotas = list(_quotas(self._groups, self._own_group))
        return Processors(
            cores=len(_own_cores()),
            quota_cores=min(quotas, default=None),
            busy_cores=max(0.0, others_s / max(now.at_s - before.at_s, 1e-3)),
        )


def _own_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor_times() -> ProcessorTimes:
    import psutil  # noqa: PLC0415 - only who asks needs it

    cores = psutil.cpu_times(percpu=True)
    own = [cores[number] for number in _own_cores() if number < len(cores)]
    busy = sum(getattr(core, kind, 0.0) for core in own for kind in _WORK)
    return ProcessorTimes(at_s=time.monotonic(), busy_s=busy, own_s=time.process_time())


def _quotas(groups: Path, own_group: Path) -> Iterator[float]:
    """Yield how many cores' worth of time each control group that the process is in allows."""
    for folder in _folders(groups, own_group, "cpu"):
        limit, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        try:
            words = (folder / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            words = []
        if len(words) == 2 and all(word.isdigit() for word in words):
            limit, period = int(words[0]), int(words[1])
        if limit is not None and period is not None and limit > 0 and period > 0:
            yield limit / period


def _number(path: Path) -> int | None:
    """Read a number; None where there is none, such as in a group without a limit."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        rows = dict(line.split(" ", 1) for line in path.read_text(encoding="ascii").splitlines() if " " in line)
    except (OSError, UnicodeDecodeError):
        return 0
    value = rows.get(name, "0").strip()
    return int(value) if value.isdigit() else 0
