"""What is told about a run while it goes on: one value, and who keeps the newest."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs

from ptycho_core.measurement.stream import StreamState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_adapters.live.engine import Picture

STALLED_AFTER_S = 2.0
"""A silence of so many seconds is told."""


class Stage(StrEnum):
    """How far a run is."""

    WAITING = "waiting"
    MEASURING = "measuring"
    RECONSTRUCTING = "reconstructing"
    ENDED = "ended"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Status:
    """What is known of a run.

    Attributes:
        source: where the frames come from.
        folder: where the result goes.
        expected: how many frames end the scan; None where only silence tells.
        stage: how far it is.
        stopping: whether somebody ended the stream.
        state: of the stream.
        r_factor: of the latest frames, or of all at the end; None before the first picture.
        picture_s: seconds that the last picture took.
        lit_px: object pixels with light.
    """

    source: str
    folder: str
    expected: int | None = None
    stage: Stage = Stage.WAITING
    stopping: bool = False
    state: StreamState = attrs.field(factory=StreamState)
    r_factor: float | None = None
    picture_s: float | None = None
    lit_px: int = 0

    def heard(self, state: StreamState) -> Status:
        """Return the status after a look at the source."""
        stage = Stage.MEASURING if state.frames and self.stage is Stage.WAITING else self.stage
        return attrs.evolve(self, state=state, stage=stage)

    def pictured(self, picture: Picture) -> Status:
        """Return the status after a picture."""
        found = picture.reconstruction
        return attrs.evolve(
            self,
            state=picture.state,
            r_factor=found.metrics.get("r_factor"),
            picture_s=picture.seconds,
            lit_px=int((found.coverage > 0).sum()),
        )

    def as_json(self) -> Mapping[str, str | int | float | bool | None]:
        """Give everything under plain names, seconds and figures as numbers."""
        state = self.state
        listening = self.stage in {Stage.WAITING, Stage.MEASURING}
        return {
            "source": self.source,
            "folder": self.folder,
            "stage": self.stage.value,
            "stopping": self.stopping and listening,
            "stalled": self.stage is Stage.MEASURING and state.stalled_s >= STALLED_AFTER_S,
            "frames": state.frames,
            "expected": self.expected,
            "rate_per_s": round(state.rate_per_s, 1) if listening else 0.0,
            "backlog": state.backlog + state.waiting,
            "missing": state.missing,
            "late": state.late,
            "repeated": state.repeated,
            "unusable": state.unusable,
            "silent_s": round(state.stalled_s, 1) if listening else 0.0,
            "longest_silence_s": round(state.longest_silence_s, 1),
            "r_factor": None if self.r_factor is None else round(self.r_factor, 4),
            "picture_s": None if self.picture_s is None else round(self.picture_s, 3),
            "lit_px": self.lit_px,
        }


class Board:
    """Holds the newest status for those who look on from other threads.

    Args:
        first: status to begin with.
    """

    def __init__(self, first: Status) -> None:
        self._lock = threading.Lock()
        self._status = first

    @property
    def status(self) -> Status:
        """The newest."""
        with self._lock:
            return self._status

    def heard(self, state: StreamState) -> None:
        """Keep what a look at the source gave."""
        with self._lock:
            self._status = self._status.heard(state)

    def pictured(self, picture: Picture) -> None:
        """Keep what a picture says."""
        with self._lock:
            self._status = self._status.pictured(picture)

    def reached(self, stage: Stage) -> None:
        """Keep how far the run is."""
        with self._lock:
            self._status = attrs.evolve(self._status, stage=stage)

    def stopping(self) -> None:
        """Keep that somebody ended the stream."""
        with self._lock:
            self._status = attrs.evolve(self._status, stopping=True)
