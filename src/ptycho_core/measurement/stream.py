"""A measurement that is still going on, as an immutable value: which frames are there, which are missing, how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterable

_RATE_WINDOW_S = 5.0
_MOST_ARRIVALS = 512


@attrs.frozen(kw_only=True, eq=False)
class FrameBatch:
    """Frames that arrived together; none at all says that time went by.

    Attributes:
        numbers: (m,) int64, place of each frame in the scan, from 0.
        patterns: (m, N, N) as measured, zero frequency at N // 2.
        positions_px: (m, 2) float64, (y, x) in object pixels; None where they are known beforehand.
        waiting: how many more the source knows of already.
        unusable: how many more came and could not be read.

    Raises:
        ScanError: the parts are not about the same frames.
    """

    numbers: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.generic]
    positions_px: npt.NDArray[np.float64] | None = None
    waiting: int = 0
    unusable: int = 0

    def __attrs_post_init__(self) -> None:
        m, problems = len(self.numbers), []
        shape = self.patterns.shape
        if len(shape) != 3 or shape[0] != m or shape[1] != shape[2]:
            problems.append(Problem(path="patterns", expected=f"shape ({m}, N, N)", found=str(shape)))
        if self.positions_px is not None and self.positions_px.shape != (m, 2):
            found = str(self.positions_px.shape)
            problems.append(Problem(path="positions_px", expected=f"shape ({m}, 2)", found=found))
        if m and int(np.min(self.numbers)) < 0:
            problems.append(Problem(path="numbers", expected="0 or more", found=str(int(np.min(self.numbers)))))
        raise_if_any(ScanError, "frames of a stream", problems)

    def __len__(self) -> int:
        return len(self.numbers)

    def some(self, which: npt.NDArray[np.bool_]) -> FrameBatch:
        """Give those of the frames that are chosen, (m,)."""
        own = self.positions_px
        return attrs.evolve(
            self,
            numbers=self.numbers[which],
            patterns=self.patterns[which],
            positions_px=None if own is None else own[which],
        )

    @classmethod
    def empty(cls, size_px: int) -> FrameBatch:
        """Give the batch that says that nothing came."""
        return cls(numbers=np.zeros(0, dtype=np.int64), patterns=np.zeros((0, size_px, size_px), dtype=np.uint16))


@attrs.frozen(kw_only=True)
class StreamState:
    """What is known of a stream. Its size goes with the number of gaps, not with that of frames.

    Attributes:
        spans: frames that arrived, as (first, end) in order, apart from each other.
        late: how many frames arrived after one of a higher number.
        repeated: how many frames arrived again and were not taken.
        unusable: how many frames came and were not taken: without light on good pixels, or not finite, or negative.
        reconstructed: how many frames the last picture was made of.
        waiting: how many frames the source knows of that are not here yet.
        silent_since_s: when the source was first found empty after the last frame; None while frames come.
        longest_silence_s: most seconds that it was empty at a stretch.
        arrivals: (second, frames) of what arrived lately.
        now_s: when the state was last brought up to date.
    """

    spans: tuple[tuple[int, int], ...] = ()
    late: int = 0
    repeated: int = 0
    unusable: int = 0
    reconstructed: int = 0
    waiting: int = 0
    silent_since_s: float | None = None
    longest_silence_s: float = 0.0
    arrivals: tuple[tuple[float, int], ...] = ()
    now_s: float = 0.0

    @property
    def frames(self) -> int:
        """How many frames are there."""
        return sum(end - first for first, end in self.spans)

    @property
    def missing(self) -> int:
        """How many frames below the highest number are not there."""
        return self.spans[-1][1] - self.frames if self.spans else 0

    @property
    def backlog(self) -> int:
        """How many frames are there and in no picture yet."""
        return self.frames - self.reconstructed

    @property
    def rate_per_s(self) -> float:
        """Frames per second over the last few seconds."""
        lately = [(at, count) for at, count in self.arrivals if at > self.now_s - _RATE_WINDOW_S]
        if not lately:
            return 0.0
        # What came first in the window came in the time before it.
        since = self.now_s - lately[0][0]
        later = sum(count for _, count in lately[1:])
        return later / since if since > 0 else 0.0

    @property
    def stalled_s(self) -> float:
        """Seconds since the source was first found empty; 0 while frames come."""
        return 0.0 if self.silent_since_s is None else self.now_s - self.silent_since_s

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame; 0 before the first."""
        return self.now_s - self.arrivals[-1][0] if self.arrivals else 0.0

    def new(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which of some frames (m,) are neither there yet nor earlier in the list."""
        known = np.zeros(len(numbers), dtype=bool)
        if self.spans:
            bounds = np.asarray(self.spans).ravel()
            # Between an even and the next odd bound lies a span.
            known = np.searchsorted(bounds, numbers, side="right") % 2 == 1
        first = np.zeros(len(numbers), dtype=bool)
        first[np.unique(numbers, return_index=True)[1]] = True
        fresh: npt.NDArray[np.bool_] = first & ~known
        return fresh

    def arrived(self, numbers: npt.NDArray[np.int64], now_s: float) -> StreamState:
        """Return the state after some frames (m,), which may be none, at a time."""
        fresh = numbers[self.new(numbers)]
        now_s = max(now_s, self.now_s)
        repeated = self.repeated + len(numbers) - len(fresh)
        since_s = self.silent_since_s if self.silent_since_s is not None else now_s
        silence_s = max(self.longest_silence_s, now_s - since_s)
        if not len(fresh):
            # What came again is a sign of life, and before the first frame nothing is amiss.
            since = since_s if self.spans and not len(numbers) else None
            return attrs.evolve(self, repeated=repeated, silent_since_s=since, longest_silence_s=silence_s, now_s=now_s)
        highest = self.spans[-1][1] - 1 if self.spans else -1
        before = np.maximum.accumulate(np.concatenate([[highest], fresh[:-1]]))
        recent = tuple(each for each in self.arrivals if each[0] > now_s - _RATE_WINDOW_S)
        return attrs.evolve(
            self,
            spans=_merged([*self.spans, *_spans(np.sort(fresh))]),
            late=self.late + int(np.count_nonzero(fresh < before)),
            repeated=repeated,
            silent_since_s=None,
            longest_silence_s=silence_s,
            arrivals=(*recent[-_MOST_ARRIVALS:], (now_s, len(fresh))),
            now_s=now_s,
        )

    def pictured(self, frames: int) -> StreamState:
        """Return the state after a picture of so many frames."""
        return attrs.evolve(self, reconstructed=frames)


@attrs.frozen(kw_only=True)
class Pace:
    """When something is done again about a stream that has gone on.

    Attributes:
        first_after: frames that it takes for a first time.
        every_s: seconds between two times, at least.
        rest: seconds between for each second that the last time took.
    """

    first_after: int = 16
    every_s: float = 0.1
    rest: float = 0.25

    def due(self, state: StreamState, since_s: float, took_s: float) -> bool:
        """Tell whether it is time.

        Args:
            state: of the stream.
            since_s: seconds since the last time was over.
            took_s: seconds that it took.
        """
        if state.frames < self.first_after or state.backlog == 0:
            return False
        return state.reconstructed == 0 or since_s >= max(self.every_s, self.rest * took_s)


def _spans(numbers: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return sorted numbers, not empty, as spans."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(numbers, breaks)]


def _merged(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)
