"""Frames of a dataset that is left in its file: read by their numbers, through one open file and a bounded cache."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.hdf5.nodes import DAMAGE, damaged
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.stored import StoredPatterns

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from ptycho_adapters.files.reading import ArrayFacts
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.stored import Numbers

_MOST_TOGETHER_BYTES = 1 << 28
_CACHE_BYTES = 1 << 24
_KEPT_TOGETHER = 2
_SLOTS = 12421  # prime, so that chunks do not fall on each other
_PREEMPTION = 0.75  # HDF5's own: how much sooner a chunk goes that was read to its end
_RASTER_AXES = 4


def depth_problem(node: h5py.Dataset, name: str, facts: ArrayFacts) -> Problem | None:
    """Say that frames cannot be read a few at a time, because the file keeps too many of them together."""
    if _together_bytes(node, facts) <= _MOST_TOGETHER_BYTES:
        return None
    expected = f"at most {_MOST_TOGETHER_BYTES >> 20} MiB of frames in a chunk, to be read a few at a time"
    fix = "copy the patterns to a folder on disk with memory_map= or --memory-map FOLDER"
    return Problem(path=name, expected=expected, found=f"chunks of {node.chunks} in {facts.shape}", fix=fix)


def left_in_file(node: h5py.Dataset, name: str, facts: ArrayFacts) -> StoredPatterns:
    """Give a dataset (n, H, W) or (rows, columns, H, W) as a stack that stays where it is.

    Args:
        node: the dataset, of which it is known that it is stored.
        name: its name for messages.
        facts: its shape and dtype.
    """
    stack = facts.as_stack()
    dtype = stack.dtype.newbyteorder("=")
    cache = max(_CACHE_BYTES, _KEPT_TOGETHER * min(_together_bytes(node, facts), _MOST_TOGETHER_BYTES))
    # Where it lies in the end: a link may have led to it.
    reader = _Reader(str(node.file.filename), str(node.name), dtype, cache)
    source = f"{reader.path}: {name}"
    return StoredPatterns(shape=stack.shape, dtype=dtype, source=source, read=reader)


def _together_bytes(node: h5py.Dataset, facts: ArrayFacts) -> int:
    """Bytes of the frames that have to be read for one of them."""
    if node.chunks is None:
        return 0
    *scan, height, width = facts.shape
    depth = int(np.prod(node.chunks[: len(scan)]))
    return depth * height * width * facts.dtype.itemsize


class _Reader:
    """Reads frames from a file that it keeps open.

    Args:
        path: the file.
        name: the dataset.
        dtype: to give them in.
        cache: bytes of chunks to keep.
    """

    def __init__(self, path: str, name: str, dtype: np.dtype[np.generic], cache: int) -> None:
        self.path = path
        self._name, self._dtype, self._cache = name, dtype, cache
        self._open: tuple[int, h5py.File, h5py.Dataset] | None = None
        self._lock = Lock()

    def __call__(self, numbers: Numbers) -> AnyArray:
        """Read the frames of ascending numbers, (m, H, W).

        Raises:
            ScanFileError: the file is damaged, or no longer there.
        """
        try:
            with self._lock:
                node = self._node()
                found = np.empty((len(numbers), *node.shape[-2:]), self._dtype)
                for first, last, start in _runs(numbers, _row_length(node)):
                    found[start : start + last - first] = _some(node, first, last)
        except DAMAGE as error:
            raise ScanFileError(self.path, [damaged(self._name, error, "an undamaged array")]) from error
        return found

    def _node(self) -> h5py.Dataset:
        """Give the dataset, opened once in each process: HDF5 is not to be carried over into a child."""
        import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

        process = os.getpid()
        if self._open is None or self._open[0] != process:
            # The cache is the dataset's own: that of a file is settled by whoever opened it first.
            access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            access.set_chunk_cache(_SLOTS, self._cache, _PREEMPTION)
            file = h5py.File(self.path, "r")
            node = h5py.Dataset(h5py.h5d.open(file.id, self._name.encode(), access))
            self._open = process, file, node
        return self._open[2]


def _row_length(node: h5py.Dataset) -> int | None:
    return node.shape[1] if node.ndim == _RASTER_AXES else None


def _some(node: h5py.Dataset, first: int, last: int) -> AnyArray:
    columns = _row_length(node)
    if columns is None:
        frames: AnyArray = node[first:last]
        return frames
    row, column = divmod(first, columns)
    in_row: AnyArray = node[row, column : column + last - first]
    return in_row


def _runs(numbers: Numbers, columns: int | None) -> Iterator[tuple[int, int, int]]:
    """Yield runs of numbers that follow each other, within a row of a raster: first, end, and place of the first."""
    breaks = np.diff(numbers) != 1
    if columns is not None:
        breaks |= numbers[1:] // columns != numbers[:-1] // columns
    starts = [0, *(np.flatnonzero(breaks) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
        yield int(numbers[start]), int(numbers[end - 1]) + 1, start
