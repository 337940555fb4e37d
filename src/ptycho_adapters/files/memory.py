"""Whether an array fits into memory, asked before it is allocated."""

from __future__ import annotations

from pathlib import Path

from ptycho_core.errors import Problem

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
# The array itself, and what validation and conversion take beside it.
_COPIES = 2
# Below this nobody runs out of memory, and the question would cost more than the answer is worth.
_SMALL_BYTES = 1 << 26
_GIB = 1 << 30


def room_problem(name: str, nbytes: int) -> Problem | None:
    """Say that an array would not fit into memory; None when it would, or when the system does not tell.

    Args:
        name: the array's name in its file.
        nbytes: its size in memory.
    """
    if nbytes < _SMALL_BYTES:
        return None
    available = available_bytes()
    if available is None or _COPIES * nbytes <= available:
        return None
    return Problem(
        path=name,
        expected=f"room for about {_COPIES * nbytes / _GIB:.1f} GiB in memory ({_COPIES} times the array)",
        found=f"{available / _GIB:.1f} GiB free",
        fix="read it on a machine with more memory, or cut the scan into several files",
    )


def available_bytes() -> int | None:
    """Give the memory that can still be allocated: of the machine, and of the container that this runs in.

    Returns:
        Bytes; None where the system does not tell.
    """
    known = [value for value in (_machine_bytes(), _group_bytes()) if value is not None]
    return min(known, default=None)


def _machine_bytes() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key == "MemAvailable" and value.strip().endswith("kB"):
            return int(value.split()[0]) * 1024
    return None


def _group_bytes() -> int | None:
    limit, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    return None if limit is None or used is None else max(limit - used, 0)


def _number(path: Path) -> int | None:
    """Read a file that holds one number; "max" stands for no limit."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None
