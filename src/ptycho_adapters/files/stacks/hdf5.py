"""Stacks in HDF5 files: (n, H, W), or (rows, columns, H, W) gone through row by row."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.hdf5.collect import collecting
from ptycho_adapters.files.hdf5.members import leave_frames, read_frames
from ptycho_adapters.files.hdf5.nodes import DAMAGE, damaged
from ptycho_adapters.files.stacks.stack import FrameStack, stack_facts
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ptycho_adapters.files.reading import ArrayFacts, Evidence
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.stored import StoredPatterns

_NUMBERED = re.compile(r"entry/data/data_\d{6}")


def numbered_series(evidence: Evidence) -> tuple[str, ...]:
    """Give the numbered stacks of a detector's master file in order; none where there is one stack, or they differ."""
    found = sorted(name for name in evidence.arrays if evidence.is_hdf5_with() and _NUMBERED.fullmatch(name))
    kinds = {(facts.shape[1:], facts.dtype) for facts in (evidence.arrays[name] for name in found)}
    alike = len(kinds) == 1 and len(next(iter(kinds))[0]) == 2
    return tuple(found) if alike and len(found) > 1 else ()


def hdf5_series(path: Path, parts: Mapping[str, ArrayFacts]) -> FrameStack:
    """Give stacks that continue each other as one.

    Args:
        path: the file.
        parts: shape and dtype of each by its name, in order.
    """
    stacks = [hdf5_stack(path, name, facts) for name, facts in parts.items()]
    names = list(parts)
    shape = (sum(stack.facts.shape[0] for stack in stacks), *stacks[0].facts.shape[1:])

    def read() -> Iterator[AnyArray]:
        for stack in stacks:
            yield from stack.read()

    starts = np.cumsum([0, *(stack.facts.shape[0] for stack in stacks)]).tolist()

    def at(numbers: npt.NDArray[np.int64]) -> AnyArray:
        of_each = [numbers[(numbers >= low) & (numbers < high)] - low for low, high in pairwise(starts)]
        some = zip((stack.at for stack in stacks), of_each, strict=True)
        return np.concatenate([chosen(inside) for chosen, inside in some if chosen is not None and inside.size])

    key = f"{names[0]} to {names[-1].rpartition('/')[2]}"
    return FrameStack(key=key, facts=attrs.evolve(stacks[0].facts, shape=shape), read=read, at=at)


def hdf5_stack(path: Path, key: str, facts: ArrayFacts) -> FrameStack:
    """Give a dataset of 3 or 4 axes as a stack.

    Args:
        path: the file.
        key: the dataset.
        facts: its shape and dtype.
    """
    of_stack, raster = stack_facts(facts)

    def read() -> Iterator[AnyArray]:
        with collecting(path) as file:
            found = read_frames(file.file, key)
            if isinstance(found, Problem):
                raise ScanFileError(str(path), [found])
            try:
                for piece in found:
                    yield piece.reshape(-1, *facts.shape[-2:])
            except DAMAGE as error:
                raise ScanFileError(str(path), [damaged(key, error, "an undamaged array")]) from error

    @cache
    def left() -> StoredPatterns:
        with collecting(path) as file:
            found = leave_frames(file.file, key)
        if isinstance(found, Problem):
            raise ScanFileError(str(path), [found])
        return found

    return FrameStack(key=key, facts=of_stack, raster=raster, read=read, at=lambda numbers: left()[numbers])
