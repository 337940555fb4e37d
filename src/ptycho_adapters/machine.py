"""What the machine has to offer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
# (limit, use, statistics with what the kernel can take back) of version 2 and version 1 of control groups.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


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
    for folder in _folders(groups, own_group):
        for limit_name, use_name, reclaimable_name in _FILES:
            limit, use = _number(folder / limit_name), _number(folder / use_name)
            if limit is not None and use is not None:
                yield limit - use + _statistic(folder / "memory.stat", reclaimable_name)


def _folders(groups: Path, own_group: Path) -> Iterator[Path]:
    """Yield the folders of the process' groups and of all groups that these are in."""
    try:
        lines = own_group.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    seen: set[Path] = set()
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        roots = {"": groups, "memory": groups / "memory"}
        root = roots.get("memory" if "memory" in controllers.split(",") else controllers)
        if root is not None:
            inner = root / path.lstrip("/")
            seen.update(folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))
    yield from sorted(seen or {groups, groups / "memory"})


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
