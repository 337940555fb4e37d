"""What a stack of frames is before it is read, and reading it into memory or into a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.in_file import InFile, in_order_only
from ptycho_adapters.files.in_place import sealed
from ptycho_adapters.files.memory import room_problem, with_mapping
from ptycho_adapters.files.reading import ArrayFacts
from ptycho_core.any_array import AnyArray
from ptycho_core.measurement.stored import StoredPatterns

if TYPE_CHECKING:
    from ptycho_adapters.files.pattern_map import PatternMap
    from ptycho_core.errors import Problem

Pieces = Callable[[], Iterator[AnyArray]]
Chosen = Callable[[npt.NDArray[np.int64]], AnyArray]


@attrs.frozen(kw_only=True, eq=False)
class FrameStack:
    """Frames of which number, size and number format are known.

    Attributes:
        key: where they are in their file, for messages.
        facts: (n, H, W) and dtype.
        raster: (rows, columns) of the scan that they were taken in row by row, where their file says so.
        read: gives them in order, some at a time, (m, H, W) each; anew at every call. Raises ScanFileError.
        at: gives the frames of ascending numbers alone; None where the file can only be gone through.
    """

    key: str
    facts: ArrayFacts
    read: Pieces
    raster: tuple[int, int] | None = None
    at: Chosen | None = None

    def turned(self, turn: Callable[[AnyArray], AnyArray], side_px: tuple[int, int]) -> FrameStack:
        """Give the same frames after a turn of (m, H, W), whichever way they are read.

        Args:
            turn: of some frames.
            side_px: (H, W) after it.
        """
        read, at = self.read, self.at
        return attrs.evolve(
            self,
            facts=ArrayFacts(shape=(self.facts.shape[0], *side_px), dtype=self.facts.dtype),
            read=lambda: map(turn, read()),
            at=None if at is None else lambda numbers: turn(at(numbers)),
        )


def stack_facts(facts: ArrayFacts) -> tuple[ArrayFacts, tuple[int, int] | None]:
    """Give the facts of an array (n, H, W) or (rows, columns, H, W) as those of a stack, and the raster."""
    *scan, _, _ = facts.shape
    return facts.as_stack(), (scan[0], scan[1]) if len(scan) == 2 else None


def whole_stack(stack: FrameStack, pattern_map: PatternMap | InFile | None) -> AnyArray | Problem:
    """Read all frames, into memory or into a map, or leave them where they are.

    Raises:
        ScanFileError: the frames cannot be read.
    """
    shape, dtype = stack.facts.shape, stack.facts.dtype.newbyteorder("=")
    if isinstance(pattern_map, InFile):
        if pattern_map.holds(stack.facts.nbytes) and stack.at is not None:
            return StoredPatterns(shape=shape, dtype=dtype, source=stack.key, read=stack.at).as_array()
        if pattern_map.always:
            return in_order_only(stack.key)
        pattern_map = None
    if pattern_map is not None and pattern_map.takes(shape, dtype):
        return pattern_map.add(stack.key, shape, dtype, stack.read())
    problem = room_problem(stack.key, stack.facts.nbytes)
    if problem is not None:
        return with_mapping(problem)
    whole, first = np.empty(shape, dtype), 0
    for piece in stack.read():
        whole[first : first + len(piece)] = piece
        first += len(piece)
    return sealed(whole)
