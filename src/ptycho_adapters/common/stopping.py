"""SIGTERM during a training: the step is finished and a checkpoint written before the signal takes its course."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class StopRequest:
    """Holds a SIGTERM back until it is passed on to what handled it when this was made; a second one is not held back.

    Attributes:
        asked: whether one came.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before = signal.getsignal(signal.SIGTERM)
        self._listens = False

    def listen(self) -> None:
        """Hold signals back from now on; outside of the main thread, where Python handles none, nothing happens."""
        # One that C has set can be seen, but not be set again.
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hold)
            self._listens = True

    def pass_on(self) -> None:
        """Hold nothing back any more, and pass on what came."""
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)
            self._listens = False
        if self.asked:
            self.asked = False
            signal.raise_signal(signal.SIGTERM)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            self.pass_on()
        self.asked = True
