"""New HDF5 files whose failures are the system's own.

The HDF5 library holds on to what it could not write: it fails again whenever the file is closed, complains past
Python's exceptions, and may end the process. So it writes through a stream that keeps the first failure to itself until
the library is done with the file.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Lend a new HDF5 file to write to.

    Args:
        path: where to; what is there is replaced.

    Yields:
        The file, closed at the end of the block.

    Raises:
        OSError: from the file system.
    """
    with path.open("w+b", buffering=0) as stream:
        patient = _Patient(stream)
        try:
            with h5py.File(patient, "w") as file:
                yield file
        finally:
            if patient.failure is not None:
                raise patient.failure


class _Patient:
    """A stream that goes on after a failure as if nothing had happened, in the air.

    Args:
        stream: to write to.

    Attributes:
        failure: the first one, if any.
    """

    def __init__(self, stream: io.FileIO) -> None:
        self.failure: OSError | None = None
        self._stream = stream
        self._at = self._end = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of the data."""
        view = memoryview(data)  # the library brings a kind of its own
        self._try(lambda: self._write_all(view))
        self._at += view.nbytes
        self._end = max(self._end, self._at)
        return view.nbytes

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill the whole buffer."""
        view = memoryview(buffer)
        self._try(lambda: self._stream.readinto(view))
        self._at += view.nbytes
        return view.nbytes

    def read(self, size: int) -> bytes:
        """Read so many bytes; what marks a stream for the library, which does not call it."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = start + offset
        self._try(lambda: self._stream.seek(self._at))
        return self._at

    def tell(self) -> int:
        """Say the place."""
        return self._at

    def truncate(self, size: int) -> int:
        """Cut or extend the file."""
        self._try(lambda: self._stream.truncate(size))
        self._end = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def _write_all(self, data: memoryview) -> None:
        rest = data.cast("B")
        while rest:
            rest = rest[self._stream.write(rest) or 0 :]

    def _try(self, act: Callable[[], object]) -> None:
        if self.failure is None:
            try:
                act()
            except OSError as error:
                self.failure = error
