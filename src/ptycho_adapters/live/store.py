"""The frames of a stream so far: in arrays that grow, and in a file once they are many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.live.spool import Spool
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.checks import SMALLEST_SPREAD_PX
from ptycho_core.measurement.stream import StreamState

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ptycho_core.frozen import ScalarT
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.measurement.stream import FrameBatch

_FIRST_ROOM = 64
_MOST_IN_MEMORY = 1 << 28  # bytes of frames


class FrameStore:
    """Keeps frames in the order of their arrival, with their positions.

    Args:
        like: a scan with the probe, the mask, the domain and, by frame number, the positions of those that come.
        folder: where frames go that are more than 256 MiB; None to keep all of them in memory.
    """

    def __init__(self, like: Scan, folder: Path | None = None) -> None:
        self._like, self._folder = like, folder
        self._spool: Spool | None = None
        # As many as have positions are expected: memory that is not touched costs nothing.
        self._room = max(_FIRST_ROOM, like.n_patterns)
        self._numbers = np.zeros(self._room, dtype=np.int64)
        self._positions = np.zeros((self._room, 2))
        self._patterns: NDArray[np.generic] | None = None
        self._dtype: np.dtype[np.generic] | None = None
        self._own_positions = False
        self.state = StreamState()

    @property
    def expected_positions_px(self) -> NDArray[np.float64]:
        """Positions (n, 2) that are known beforehand; none where they come with the frames."""
        known = self._like.positions_px
        return known[:0] if self._own_positions else known

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Place in the scan of each frame, in the order of their arrival."""
        return self._numbers[: self.state.frames]

    @property
    def positions_px(self) -> NDArray[np.float64]:
        """Positions (n, 2) of the frames, in the order of their arrival."""
        return self._positions[: self.state.frames]

    def add(self, batch: FrameBatch, now_s: float) -> None:
        """Take the frames of a batch that are not there yet and that can be used.

        Raises:
            ScanError: they are of another size, or there is no position for one of them.
        """
        new = self.state.new(batch.numbers)
        if new.any():
            self._check(batch)
            usable = self._usable(batch.patterns)
            unusable = self.state.unusable + int(np.count_nonzero(new & ~usable))
            batch, new = batch.some(usable), new[usable]
            self._own_positions |= batch.positions_px is not None
            self._put(batch, np.flatnonzero(new))
            self.state = attrs.evolve(self.state, unusable=unusable)
        unusable = self.state.unusable + batch.unusable
        self.state = attrs.evolve(self.state.arrived(batch.numbers, now_s), waiting=batch.waiting, unusable=unusable)

    def spread_out(self, first: int, end: int) -> bool:
        """Tell whether frames lie apart from each other, as those of a scan do; `latest` says which."""
        spread = np.ptp(self._positions[first:end], axis=0).max()
        return bool(spread >= SMALLEST_SPREAD_PX)

    def latest(self, first: int, end: int) -> Scan:
        """Give the frames that arrived from one place in the order of arrival up to another one.

        Raises:
            ScanError: they are no scan: all at one place, say.
        """
        if self._spool is not None:
            patterns = self._spool.some(first, end)
        else:
            patterns = np.zeros(0) if self._patterns is None else self._patterns[first:end]
        return self._scan(patterns, self._positions[first:end])

    def scan(self) -> Scan:
        """Give the frames so far, in the order of their numbers, as a scan.

        Raises:
            ScanError: they are none, with every problem there is.
        """
        if not self.state.frames:
            raise ScanError("stream", [Problem(path="frames", expected="at least one", found="none")])
        order = np.argsort(self.numbers, kind="stable")
        positions = self.positions_px[order]
        if self._spool is not None:
            return self._scan(self._spool.in_order(order).as_array(), positions)
        if self._patterns is None:
            raise RuntimeError("frames without patterns")
        in_order = bool((np.diff(self.numbers) > 0).all())
        return self._scan(self._patterns[: len(order)] if in_order else self._patterns[order], positions)

    def _scan(self, patterns: NDArray[np.generic], positions_px: NDArray[np.float64]) -> Scan:
        return attrs.evolve(
            self._like,
            patterns=patterns,
            positions_px=positions_px,
            scan_index=np.zeros(len(patterns), dtype=np.int32),
            commanded_positions_px=None,
        )

    def _usable(self, patterns: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Tell which frames (m, N, N) have light on good pixels, and nothing that is no measurement."""
        bad = self._like.bad_pixels
        seen = patterns if bad is None else patterns[:, ~bad]
        lit = np.greater(seen, 0).reshape(len(patterns), -1).any(axis=1)
        usable: NDArray[np.bool_] = lit & (np.isfinite(patterns) & np.greater_equal(patterns, 0)).all(axis=(1, 2))
        return usable

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
        self._keep(batch.patterns[new], start)
        self._numbers, self._positions = _with_room(self._numbers, end), _with_room(self._positions, end)
        numbers = batch.numbers[new]
        own = batch.positions_px
        self._positions[start:end] = self._like.positions_px[numbers] if own is None else own[new]
        self._numbers[start:end] = numbers

    def _keep(self, patterns: NDArray[np.generic], start: int) -> None:
        """Keep patterns (m, N, N) after those that are there, in memory or in the file."""
        end, kept_as = start + len(patterns), self._dtype or patterns.dtype
        if patterns.dtype != kept_as:
            expected, found = f"{kept_as}, as before", str(patterns.dtype)
            raise ScanError("stream", [Problem(path="frames", expected=expected, found=found)])
        self._dtype = kept_as
        if self._spool is None and self._folder is not None and end * patterns[0].nbytes > _MOST_IN_MEMORY:
            self._spool = Spool(self._folder, patterns.shape[1:], kept_as)
            if self._patterns is not None:
                self._spool.add(self._patterns[:start])
            self._patterns = None
        if self._spool is not None:
            self._spool.add(patterns)
            return
        if self._patterns is None:
            self._patterns = np.zeros((self._room, *patterns.shape[1:]), dtype=kept_as)
        self._patterns = _with_room(self._patterns, end)
        self._patterns[start:end] = patterns


def _with_room(values: NDArray[ScalarT], rows: int) -> NDArray[ScalarT]:
    """Return an array of at least so many rows that starts with the given ones; room is doubled."""
    if rows <= len(values):
        return values
    larger = np.zeros((max(rows, 2 * len(values)), *values.shape[1:]), dtype=values.dtype)
    larger[: len(values)] = values
    return larger
