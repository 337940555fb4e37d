"""Patterns that are left where their file has them, and what decides that."""

from __future__ import annotations

from enum import StrEnum

import attrs

from ptycho_adapters.machine import available_memory
from ptycho_core.errors import Problem

# The patterns, and on the device their counts with two copies while they are prepared.
_COPIES = 4
_SMALL_BYTES = 1 << 26


class PatternsIn(StrEnum):
    """Where the patterns of a scan are kept while it is worked on."""

    MEMORY = "memory"
    FILE = "file"
    AUTO = "auto"


@attrs.frozen(kw_only=True)
class InFile:
    """Patterns are left in their file and read from it some at a time.

    Attributes:
        always: whichever size they have; else only where they do not fit into memory.
        full_scale: as of a map; nothing is widened on the way.
    """

    always: bool
    full_scale: None = None

    def holds(self, nbytes: int) -> bool:
        """Tell whether patterns of so many bytes stay where they are."""
        return self.always or (nbytes >= _SMALL_BYTES and nbytes * _COPIES > available_memory())


def place_of(patterns_in: PatternsIn) -> InFile | None:
    """Say in terms of a request where patterns are to be kept; None for memory."""
    return None if patterns_in is PatternsIn.MEMORY else InFile(always=patterns_in is PatternsIn.FILE)


def in_order_only(key: str) -> Problem:
    """Say that the frames of a file can only be read one after the other."""
    return Problem(
        path=key,
        expected="frames that can be read in any order, as an HDF5 file has them",
        found="frames that can only be read one after the other",
        fix="copy them to a folder on disk with memory_map= or --memory-map FOLDER, or write the scan as HDF5 with "
        "ptycho convert",
    )
