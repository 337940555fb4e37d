"""Whether an array fits into memory, asked before it is allocated."""

from __future__ import annotations

import attrs

from ptycho_adapters.machine import available_memory
from ptycho_core.errors import Problem

# The array itself, and what validation and conversion take beside it.
_COPIES = 2
# Below this nobody runs out of memory, and the question would cost more than the answer is worth.
_SMALL_BYTES = 1 << 26
_GIB = 1 << 30
_ELSEWHERE = "read it on a machine with more memory, or cut the scan into several files"
_MAPPED = (
    "map its patterns to a folder on disk with memory_map= or --memory-map FOLDER, or leave those of an HDF5 file "
    "where they are with open_scan or --patterns-in file"
)


def room_problem(name: str, nbytes: int) -> Problem | None:
    """Say that an array would not fit into memory; None when it would.

    Args:
        name: the array's name in its file.
        nbytes: its size in memory.
    """
    if nbytes < _SMALL_BYTES:
        return None
    available = available_memory()
    if _COPIES * nbytes <= available:
        return None
    return Problem(
        path=name,
        expected=f"room for about {_COPIES * nbytes / _GIB:.1f} GiB in memory ({_COPIES} times the array)",
        found=f"{available / _GIB:.1f} GiB free",
        fix=_ELSEWHERE,
    )


def with_mapping(problem: Problem) -> Problem:
    """Propose a map, too, where patterns do not fit into memory; any other problem is returned as it is."""
    return attrs.evolve(problem, fix=f"{_ELSEWHERE}, or {_MAPPED}") if problem.fix == _ELSEWHERE else problem
