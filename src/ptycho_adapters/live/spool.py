"""Frames of a long stream in a file without a name, which is gone when its process is."""

from __future__ import annotations

import tempfile
import weakref
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.measurement.stored import StoredPatterns

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Frames = NDArray[np.generic]
    Numbers = NDArray[np.int64]


class Spool:
    """Keeps frames in the order in which they come.

    Args:
        folder: that has the room.
        shape: (N, N) of a frame.
        dtype: of its pixels.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._folder, self._shape, self._dtype = folder, shape, dtype
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - as long as the frames are needed
        weakref.finalize(self, self._file.close)  # a scan may still read from here when the store is gone
        self._frame_bytes = int(np.prod(shape)) * dtype.itemsize
        self._frames, self._one_at_a_time = 0, Lock()

    def __len__(self) -> int:
        return self._frames

    def add(self, frames: Frames) -> None:
        """Add frames (m, N, N).

        Raises:
            OSError: there is no room.
        """
        with self._one_at_a_time:
            self._file.seek(self._frames * self._frame_bytes)
            left = np.ascontiguousarray(frames).data.cast("B")
            while left:
                left = left[self._file.write(left) :]
            self._frames += len(frames)

    def some(self, first: int, end: int) -> Frames:
        """Read frames that came one after the other, (end - first, N, N)."""
        found = np.empty((end - first, *self._shape), dtype=self._dtype)
        with self._one_at_a_time:
            self._file.seek(first * self._frame_bytes)
            left = found.data.cast("B")
            while left:
                got = self._file.readinto(left)
                if not got:
                    raise OSError(f"the frames of the stream in {self._folder} cannot be read any more")
                left = left[got:]
        return found

    def in_order(self, order: Numbers) -> StoredPatterns:
        """Give frames by their places in the order of arrival, (n,), without reading them."""
        shape = (len(self), *self._shape)
        whole = StoredPatterns(shape=shape, dtype=self._dtype, source=f"the stream in {self._folder}", read=self._read)
        return whole.taken(order)

    def _read(self, numbers: Numbers) -> Frames:
        """Read frames of ascending numbers, (m,): runs of them at once."""
        breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
        runs = np.split(numbers, breaks)
        return np.concatenate([self.some(int(run[0]), int(run[-1]) + 1) for run in runs])
