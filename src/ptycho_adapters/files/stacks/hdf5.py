"""Stacks in HDF5 files: (n, H, W), or (rows, columns, H, W) gone through row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.files.hdf5.collect import collecting
from ptycho_adapters.files.hdf5.members import read_frames
from ptycho_adapters.files.hdf5.nodes import DAMAGE, damaged
from ptycho_adapters.files.stacks.stack import FrameStack, stack_facts
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ptycho_adapters.files.reading import ArrayFacts
    from ptycho_core.any_array import AnyArray


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

    return FrameStack(key=key, facts=of_stack, raster=raster, read=read)
