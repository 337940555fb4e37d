"""Frames from a detector's socket, as it sends them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.live.decoding import decode
from ptycho_adapters.live.detector_messages import Begin, End, RawFrame, read_message
from ptycho_adapters.live.extra import module
from ptycho_adapters.live.window import Window
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.stream import FrameBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import zmq

    from ptycho_adapters.live.detector_messages import Message

_MOST_FRAMES = 256  # of a batch
_MOST_MESSAGES = 4096  # between two batches, so that a source that never rests does not hold them up
_POLL_MS = 50
_LOG = logging.getLogger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class DetectorSource:
    """Frames of one series, which a detector pushes (ZeroMQ; DECTRIS SIMPLON stream, version 1).

    The first series that is heard of is followed to its end. While nobody asks for a batch, frames are kept as they
    were sent. A frame that cannot be decoded is counted and left out.

    Attributes:
        address: `tcp://HOST:PORT` of the detector.
        window: part of the frames that is wanted.
        expected: number of frames with which the scan ends; None where the detector or silence tells.
        patience_s: so many seconds without a frame, after the first one, end the stream.
        stopped: asked between batches; the stream ends once it says so.
        clock: gives seconds.
    """

    address: str
    window: Window
    expected: int | None = None
    patience_s: float = 30.0
    stopped: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic

    def __iter__(self) -> Iterator[FrameBatch]:
        """Give the batches.

        Raises:
            DependencyError: pyzmq, or for compressed frames hdf5plugin, is not installed.
            ScanError: the address is none, or what is sent is not of that protocol.
        """
        module("zmq")
        import zmq  # noqa: PLC0415 - an extra

        with zmq.Context() as context, context.socket(zmq.PULL) as socket:
            socket.linger = 0
            # A detector that finds no room drops frames: they wait here, and all are kept in the end.
            socket.rcvhwm = 0
            try:
                socket.connect(self.address)
            except zmq.ZMQError as error:
                found = f"{self.address}: {error}"
                raise ScanError("stream", [Problem(path="address", expected="tcp://HOST:PORT", found=found)]) from None
            yield from self._batches(socket)

    def _batches(self, socket: zmq.Socket[bytes]) -> Iterator[FrameBatch]:
        series = Series()
        taken, heard_s = 0, None
        while not self.stopped() and (self.expected is None or taken < self.expected):
            for parts in _received(socket, wait=not series.frames):
                series.take(read_message(parts, self.address))
            batch = self._decoded(series.frames)
            taken += len(batch) + batch.unusable
            now_s = self.clock()
            if len(batch):
                heard_s = now_s
            elif series.ended or (heard_s is not None and now_s - heard_s >= self.patience_s):
                return
            yield batch

    def _decoded(self, waiting: deque[RawFrame]) -> FrameBatch:
        """Take frames of one kind from the front, and decode them."""
        chosen: list[RawFrame] = []
        while waiting and len(chosen) < _MOST_FRAMES and waiting[0].kind == (chosen or waiting)[0].kind:
            chosen.append(waiting.popleft())
        if not chosen:
            return FrameBatch.empty(self.window.size_px)
        kind = chosen[0].kind
        rows, columns = self.window.of(kind.shape, self.address)
        frames, good = decode([frame.content for frame in chosen], kind)
        numbers = np.array([frame.number for frame in chosen], dtype=np.int64)
        if not good.all():
            _LOG.warning("%s: frames %s could not be decoded", self.address, numbers[~good].tolist())
        patterns = frames[:, rows, columns]
        patterns = patterns.astype(np.uint16) if patterns.dtype.itemsize == 1 else np.ascontiguousarray(patterns)
        whole = FrameBatch(numbers=numbers, patterns=patterns, waiting=len(waiting))
        return attrs.evolve(whole.some(good), unusable=int((~good).sum()))


class Series:
    """The series that is followed, and those of its frames that wait."""

    def __init__(self) -> None:
        self.frames: deque[RawFrame] = deque()
        self._number: int | None = None
        self._last = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self._last and not self.frames

    def take(self, message: Message | None) -> None:
        """Take a message; those of an earlier series are left out, and the beginning of another one ends this."""
        match message:
            case Begin(series=number) | RawFrame(series=number) if self._number is None:
                self._number = number
            case Begin(series=number) if number != self._number:
                self._last = True
            case End(series=number) if number == self._number:
                self._last = True
            case _:
                pass
        if isinstance(message, RawFrame) and message.series == self._number and not self._last:
            self.frames.append(message)


def _received(socket: zmq.Socket[bytes], *, wait: bool) -> Iterator[list[bytes]]:
    """Give the messages that are there; wait a little for the first one if asked."""
    import zmq  # noqa: PLC0415 - an extra

    timeout_ms = _POLL_MS if wait else 0
    for _ in range(_MOST_MESSAGES):
        if not socket.poll(timeout_ms):
            return
        yield socket.recv_multipart(zmq.NOBLOCK)
        timeout_ms = 0
