"""Where a sequence of bytes stands in a file, without the whole file in memory."""

from __future__ import annotations

from typing import IO

_BLOCK_BYTES = 1 << 20


def places_of(stream: IO[bytes], pattern: bytes) -> list[int]:
    """Find every offset in a seekable stream at which a pattern of two or more bytes begins, in rising order.

    Raises:
        OSError: from the file system.
    """
    places: list[int] = []
    stream.seek(0)
    start, tail = 0, b""
    while block := stream.read(_BLOCK_BYTES):
        window = tail + block
        place = window.find(pattern)
        while place >= 0:
            places.append(start - len(tail) + place)
            place = window.find(pattern, place + 1)
        start += len(block)
        tail = window[-(len(pattern) - 1) :]
    return places
