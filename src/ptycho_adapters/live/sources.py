"""Where the frames of a stream come from: a queue of this process, or an HDF5 file that grows."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs
import numpy as np

from ptycho_adapters.live.window import Window
from ptycho_core.errors import Problem, ScanFileError, raise_if_any
from ptycho_core.measurement.stream import FrameBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

_MOST_FRAMES = 256  # of a batch, so that a long backlog does not take its memory twice
_POLL_S = 0.05


class Source(Protocol):
    """Gives batches of frames; an empty one where nothing came for a while. It ends when the scan does."""

    def __iter__(self) -> Iterator[FrameBatch]:
        """Give the batches."""
        ...


@attrs.frozen(kw_only=True, eq=False)
class QueueSource:
    """Batches that another thread puts into a queue.

    Attributes:
        frames: the queue; None ends it.
        size_px: side of a frame.
        wait_s: after so many seconds without a batch an empty one is given.
    """

    frames: queue.Queue[FrameBatch | None]
    size_px: int
    wait_s: float = _POLL_S

    def __iter__(self) -> Iterator[FrameBatch]:
        """Give the batches."""
        while True:
            try:
                batch = self.frames.get(timeout=self.wait_s)
            except queue.Empty:
                yield FrameBatch.empty(self.size_px)
                continue
            if batch is None:
                return
            yield batch


@attrs.frozen(kw_only=True, eq=False)
class SwmrSource:
    """An HDF5 file that another process writes (single writer, multiple readers).

    A frame that is 0 everywhere has room in the file and no content yet: it is looked at again until it has, and left
    out if it never gets any.

    Attributes:
        path: the file, which has to exist and to be in SWMR mode, or complete.
        frames_at: dataset (n, H, W).
        window: part of the frames that is wanted; None for whole ones, (n, N, N).
        positions_at: dataset (n, 2) of (y, x) in object pixels that grows with it; None where they are known.
        expected: number of frames with which the scan ends; None where only silence tells.
        patience_s: so many seconds without a frame end the stream.
        stopped: asked between batches; the stream ends once it says so.
        clock: gives seconds.
        sleep: waits.
    """

    path: Path
    frames_at: str
    window: Window | None = None
    positions_at: str | None = None
    expected: int | None = None
    patience_s: float = 30.0
    stopped: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def __iter__(self) -> Iterator[FrameBatch]:
        """Give the batches.

        Raises:
            FileNotFoundError: there is no such file.
            ScanFileError: it has no such datasets.
        """
        import h5py  # noqa: PLC0415 - loaded by who has a file

        if not self.path.exists():
            message = f"Stream file not found: {self.path}"
            raise FileNotFoundError(message)
        with _opened(self.path) as file:
            self._check(file, h5py.Dataset)
            yield from self._batches(file)

    def _batches(self, file: h5py.File) -> Iterator[FrameBatch]:
        size = file[self.frames_at].shape[1] if self.window is None else self.window.size_px
        waiting = np.zeros(0, dtype=np.int64)
        looked = taken = 0
        heard_s = self.clock()
        while not self.stopped() and (self.expected is None or taken < self.expected):
            there = self._there(file)
            fresh = np.arange(looked, min(there, looked + _MOST_FRAMES))
            batch, waiting = self._read(file, np.concatenate([waiting[:_MOST_FRAMES], fresh]), waiting[_MOST_FRAMES:])
            looked += len(fresh)
            taken += len(batch)
            now_s = self.clock()
            if len(batch):
                heard_s = now_s
            elif now_s - heard_s >= self.patience_s:
                return
            elif looked == there:
                self.sleep(_POLL_S)
            yield attrs.evolve(batch if len(batch) else FrameBatch.empty(size), waiting=there - looked)

    def _there(self, file: h5py.File) -> int:
        """Return how many frames have room in the file, and a position where those come with them."""
        lengths = []
        for name in filter(None, (self.frames_at, self.positions_at)):
            file[name].refresh()
            lengths.append(int(file[name].shape[0]))
        return min(lengths)

    def _read(self, file: h5py.File, numbers: Numbers, rest: Numbers) -> tuple[FrameBatch, Numbers]:
        """Read frames; give those that have content, and the numbers of the others after the rest."""
        if not len(numbers):
            return FrameBatch.empty(file[self.frames_at].shape[1]), rest
        rows, columns = self._part(file)
        chosen = _in_a_row(numbers)
        patterns = file[self.frames_at][chosen, rows, columns]
        lit = patterns.any(axis=(1, 2))
        positions = None if self.positions_at is None else file[self.positions_at][chosen].astype(np.float64)[lit]
        batch = FrameBatch(numbers=numbers[lit], patterns=patterns[lit], positions_px=positions)
        return batch, np.concatenate([rest, numbers[~lit]])

    def _part(self, file: h5py.File) -> tuple[slice, slice]:
        shape = file[self.frames_at].shape[1:]
        return (slice(None), slice(None)) if self.window is None else self.window.of(shape, str(self.path))

    def _check(self, file: h5py.File, kind: type) -> None:
        problems = []
        for name, shape, rank in ((self.frames_at, "(n, H, W)", 3), (self.positions_at, "(n, 2)", 2)):
            if name is None:
                continue
            found = file.get(name)
            if not isinstance(found, kind) or len(file[name].shape) != rank:
                what = "nothing" if found is None else str(getattr(found, "shape", "a group"))
                problems.append(Problem(path=name, expected=f"a dataset {shape}", found=what))
        raise_if_any(ScanFileError, str(self.path), problems)
        self._part(file)


def _in_a_row(numbers: Numbers) -> slice | Numbers:
    """Give numbers, not empty, as a slice where they follow each other: HDF5 reads that much faster."""
    first, end = int(numbers[0]), int(numbers[-1]) + 1
    return slice(first, end) if end - first == len(numbers) else numbers


def _opened(path: Path) -> h5py.File:
    import h5py  # noqa: PLC0415 - see above

    try:
        return h5py.File(path, "r", libver="latest", swmr=True)
    except OSError as error:
        expected, fix = (
            "an HDF5 file in SWMR mode, or a complete one",
            "let the writer set swmr_mode once it is laid out",
        )
        raise ScanFileError(str(path), [Problem(path="file", expected=expected, found=str(error), fix=fix)]) from None
