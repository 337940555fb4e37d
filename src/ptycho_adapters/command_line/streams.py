"""Standard streams that take any text, and that may be missing, closed or full.

A process without a terminal (`pythonw`, a daemon, `2>&-`) has no standard streams, a pipe's reader may be gone, and a
terminal may know nothing but ASCII. None of it may change what is computed or written.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from ptycho_adapters.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_LAST_STANDARD = 2


class AnyText(io.TextIOBase):
    """A stream over a standard one, for any text.

    Args:
        stream: of the process; None where it has none, and everything is dropped.
        name: what messages call it; empty for one whose text nobody may need, so that losing it is no failure.
    """

    def __init__(self, stream: TextIO | None, name: str = "") -> None:
        self._stream, self._name = stream, name

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the stubs, read-only in Python
        """What text goes out in."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str, /) -> int:
        """Write text, with what the encoding lacks spelled out.

        Raises:
            OSError: it is lost, and may be needed.
        """
        if self._stream is not None:
            with self._minding():
                self._stream.write(printable(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Hand everything over.

        Raises:
            OSError: it is lost, and may be needed.
        """
        if self._stream is not None:
            with self._minding():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether people read it as it comes."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def fileno(self) -> int:
        """Return the descriptor.

        Raises:
            OSError: it has none.
        """
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    @contextmanager
    def _minding(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._give_up()
            if isinstance(error, BrokenPipeError) and self._name:
                raise
            if self._name:
                raise OSError(error.errno, os.strerror(error.errno or 0), self._name) from None
        except ValueError:
            if self._stream is not None and not self._stream.closed:
                raise
            self._stream = None

    def _give_up(self) -> None:
        """Let what Python still holds for a stream go nowhere, so that it does not fail once more at exit."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        self._stream = None


@contextmanager
def any_text() -> Iterator[None]:
    """Put streams that take any text in the place of the standard ones, for the length of the block.

    Words on standard error that are lost are no failure; results on standard output are.
    """
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", AnyText(sys.stdout, "standard output"))
    sys.stderr = cast("TextIO", AnyText(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _occupy_descriptors() -> None:
    """Occupy the descriptors of missing streams: else the first file opened gets one, and what a C library says."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        pass
    os.close(descriptor)
