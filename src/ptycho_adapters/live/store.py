"""The frames of a stream so far, in arrays that grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.stream import StreamState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_core.frozen import ScalarT
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.measurement.stream import FrameBatch

_FIRST_ROOM = 64


class FrameStore:
    """Keeps frames in the order of their arrival, with their positions.

    Args:
        like: a scan with the probe, the mask, the domain and, by frame number, the positions of those that come.
    """

    def __init__(self, like: Scan) -> None:
        self._like = like
        self._numbers = np.zeros(_FIRST_ROOM, dtype=np.int64)
        self._positions = np.zeros((_FIRST_ROOM, 2))
        self._patterns: NDArray[np.generic] | None = None
        self.state = StreamState()

    def add(self, batch: FrameBatch, now_s: float) -> None:
        """Take the frames of a batch that are not there yet.

        Raises:
            ScanError: they are of another size, or there is no position for one of them.
        """
        new = self.state.new(batch.numbers)
        if new.any():
            self._check(batch)
            self._put(batch, np.flatnonzero(new))
        self.state = self.state.arrived(batch.numbers, now_s)

    def scan(self) -> Scan:
        """Give the frames so far, in the order of their numbers, as a scan.

        Raises:
            ScanError: they are none, with every problem there is.
        """
        if self._patterns is None:
            raise ScanError("stream", [Problem(path="frames", expected="at least one", found="none")])
        order = np.argsort(self._numbers[: self.state.frames], kind="stable")
        return attrs.evolve(
            self._like,
            patterns=self._patterns[order],
            positions_px=self._positions[order],
            scan_index=np.zeros(len(order), dtype=np.int32),
            commanded_positions_px=None,
        )

    def _check(self, batch: FrameBatch) -> None:
        size, known = self._like.N, self._like.n_patterns
        found = batch.patterns.shape[1]
        if found != size:
            expected = f"{size} px, as the probe has"
            raise ScanError("stream", [Problem(path="frames", expected=expected, found=f"{found} px")])
        highest = int(batch.numbers.max())
        if batch.positions_px is None and highest >= known:
            expected = f"a position for every frame: {known} are known"
            raise ScanError("stream", [Problem(path="positions", expected=expected, found=f"frame {highest}")])

    def _put(self, batch: FrameBatch, new: NDArray[np.int64]) -> None:
        start = self.state.frames
        end = start + len(new)
        if self._patterns is None:
            self._patterns = np.zeros((_FIRST_ROOM, *batch.patterns.shape[1:]), dtype=batch.patterns.dtype)
        if batch.patterns.dtype != self._patterns.dtype:
            expected, found = str(self._patterns.dtype), str(batch.patterns.dtype)
            raise ScanError("stream", [Problem(path="frames", expected=f"{expected}, as before", found=found)])
        self._patterns = _with_room(self._patterns, end)
        self._numbers, self._positions = _with_room(self._numbers, end), _with_room(self._positions, end)
        numbers = batch.numbers[new]
        own = batch.positions_px
        self._patterns[start:end] = batch.patterns[new]
        self._positions[start:end] = self._like.positions_px[numbers] if own is None else own[new]
        self._numbers[start:end] = numbers


def _with_room(values: NDArray[ScalarT], rows: int) -> NDArray[ScalarT]:
    """Return an array of at least so many rows that starts with the given ones; room is doubled."""
    if rows <= len(values):
        return values
    larger = np.zeros((max(rows, 2 * len(values)), *values.shape[1:]), dtype=values.dtype)
    larger[: len(values)] = values
    return larger
