"""Pictures drawn beside the engine: the newest result is drawn, those that it overtook are left out."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import attrs

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ptycho_core.results.reconstruction import Reconstruction


@attrs.frozen(kw_only=True)
class Drawn:
    """Pictures of one result.

    Attributes:
        number: how manieth of those that were drawn, from 1; 0 before the first.
        phase: PNG file.
        coverage: PNG file; empty where it is not wanted.
    """

    number: int = 0
    phase: bytes = b""
    coverage: bytes = b""


class Drawing:
    """Draws in a thread of its own, so that whoever shows a result goes on at once.

    Args:
        path: PNG file of the phase, written anew each time.
        with_coverage: whether coverage is drawn too.
    """

    def __init__(self, path: Path, *, with_coverage: bool) -> None:
        self._path, self._with_coverage = path, with_coverage
        self._changed = threading.Condition()
        self._next: Reconstruction | None = None
        self._closing = False
        self._failed: Exception | None = None
        self._drawn = Drawn()
        self._thread = threading.Thread(target=self._work, name="drawing", daemon=True)

    @property
    def drawn(self) -> Drawn:
        """The newest pictures."""
        with self._changed:
            return self._drawn

    def show(self, found: Reconstruction) -> None:
        """Draw a result as soon as the one before it is done.

        Raises:
            OSError: an earlier one could not be written.
        """
        with self._changed:
            if self._failed is not None:
                raise self._failed
            self._next = found
            self._changed.notify()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw what is left and end.

        Raises:
            OSError: a picture could not be written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed

    def _work(self) -> None:
        import ptycho_adapters.files.images.pictures  # noqa: F401, PLC0415 - matplotlib, before the first picture

        while (found := self._taken()) is not None:
            started_s = time.monotonic()
            try:
                self._draw(found)
            except Exception as error:  # noqa: BLE001 - told by whoever shows the next result or ends
                with self._changed:
                    self._failed = error
                return
            with self._changed:
                # Half of a processor at most is for looking on.
                self._changed.wait_for(lambda: self._closing, timeout=time.monotonic() - started_s)

    def _taken(self) -> Reconstruction | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._next is not None)
            found, self._next = self._next, None
        return found

    def _draw(self, found: Reconstruction) -> None:
        from ptycho_adapters.atomic import write_bytes  # noqa: PLC0415 - with what follows
        from ptycho_adapters.files.images.pictures import coverage_png, phase_png  # noqa: PLC0415 - matplotlib

        phase = phase_png(found.object, found.coverage, origin_px=found.origin_px)
        write_bytes(self._path, phase)
        coverage = coverage_png(found.coverage, origin_px=found.origin_px) if self._with_coverage else b""
        with self._changed:
            self._drawn = Drawn(number=self._drawn.number + 1, phase=phase, coverage=coverage)
