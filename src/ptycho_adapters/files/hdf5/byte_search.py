"""Where a sequence of bytes stands in a file, without the whole file in memory."""

from __future__ import annotations

from typing import IO

HDF5_START = b"\x89HDF\r\n\x1a\n"
_BLOCK_BYTES = 1 << 20
_FIRST_USER_BLOCK, _LARGEST_USER_BLOCK = 512, 1 << 26


def hdf5_start(stream: IO[bytes]) -> int | None:
    """Find where an HDF5 file begins: at 0, or behind a user block of 512 · 2^k bytes; None for any other file.

    MATLAB keeps a text of 512 bytes in front.

    Raises:
        OSError: from the file system.
    """
    place = 0
    while place <= _LARGEST_USER_BLOCK:
        stream.seek(place)
        start = stream.read(len(HDF5_START))
        if start == HDF5_START:
            return place
        if len(start) < len(HDF5_START):
            return None
        place = 2 * place or _FIRST_USER_BLOCK
    return None


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
