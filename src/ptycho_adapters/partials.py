"""Files that are being written, `.NAME.OWNER.XXXXXXXX.partial`: whose they are, and whether anybody still writes them.

The owner is a process: its machine, the machine's start, the namespace of its number, its number and its own start. A
process of this machine is looked for. That of another machine, on a disk that both share, cannot be seen: its file is
taken for abandoned once nobody has touched it for an hour.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

import attrs

PARTIAL_SUFFIX = ".partial"
_LONGEST_STEM = 180
_ABANDONED_S = 3600.0
_OWNED = re.compile(r"\..+\.([0-9a-f]{6})([0-9a-f]{6})([0-9a-f]{6})-(\d+)-(\d+)\.[0-9a-f]{8}\.partial", re.DOTALL)
_UNOWNED = re.compile(r"\..+\.[0-9a-f]{8}\.partial", re.DOTALL)  # of earlier versions
_GONE = frozenset("ZXx")  # states of a process that has ended and is not collected yet


@attrs.frozen
class _Owner:
    """A process; of a system that does not tell them, machine start and namespace are the same, and its start is 0."""

    machine: str
    machine_start: str
    namespace: str
    number: int
    start: int

    def __str__(self) -> str:
        return f"{self.machine}{self.machine_start}{self.namespace}-{self.number}-{self.start}"


def partial_path(target: Path) -> Path:
    """Give an unused hidden name beside `target` that tells which process writes it."""
    stem = target.name[:_LONGEST_STEM]
    return target.with_name(f".{stem}.{_this_process()}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def remove_abandoned(folder: Path) -> tuple[Path, ...]:
    """Remove the files in a folder that nobody goes on writing; what may not be removed stays.

    Args:
        folder: to look into; one that is not there holds none.

    Returns:
        The files that were removed.
    """
    removed = []
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if entry.name.endswith(PARTIAL_SUFFIX)]:
            path = folder / name
            with suppress(OSError):
                if _is_abandoned(path):
                    path.unlink()
                    removed.append(path)
    return tuple(removed)


@functools.lru_cache(maxsize=256)
def remove_abandoned_once(folder: Path) -> None:
    """Remove what nobody goes on writing, the first time that this process asks for a folder."""
    remove_abandoned(folder)


def _is_abandoned(path: Path) -> bool:
    found = _OWNED.fullmatch(path.name)
    if found is None:
        return _UNOWNED.fullmatch(path.name) is not None and _is_old(path)
    machine, machine_start, namespace, number, start = found.groups()
    own = _this_process()
    if machine != own.machine or os.name != "posix":
        return _is_old(path)
    if machine_start != own.machine_start:
        return True  # this machine has been started anew since
    return not _runs(int(number), int(start)) if namespace == own.namespace else _is_old(path)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _ABANDONED_S


def _this_process() -> _Owner:
    return _owner(os.getpid())  # another one after a fork


@functools.lru_cache(maxsize=1)
def _owner(number: int) -> _Owner:
    start = _start_of(number)
    return _Owner(
        machine=_short(platform.node() + _text(Path("/etc/machine-id"))),
        machine_start=_short(_text(Path("/proc/sys/kernel/random/boot_id"))),
        namespace=_short(_link(Path("/proc/self/ns/pid"))),
        number=number,
        start=start or 0,
    )


def _runs(number: int, start: int) -> bool:
    """Tell whether the process of a number is there, and is the one that was started then."""
    if start:
        return _start_of(number) == start
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there, and somebody else's
        return True
    return True


def _start_of(number: int) -> int | None:
    """Return when a process was started, in ticks since the machine was; None where there is none or no telling."""
    # The name of the program stands in brackets and may hold any.
    state, *fields = _text(Path(f"/proc/{number}/stat")).rpartition(")")[2].split() or [""]
    return int(fields[18]) if state and state not in _GONE else None


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _link(path: Path) -> str:
    with suppress(OSError):
        return str(path.readlink())
    return ""
