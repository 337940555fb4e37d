"""Looking at the heaps of an HDF5 file, where texts of variable length lie, before the HDF5 library does.

The library walks a heap from object to object by the sizes that stand in it, and a size of zero keeps it at one object
for ever. Layout: "HDF5 File Format Specification", section III.E, Global Heap.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import IO, TYPE_CHECKING

from ptycho_adapters.files.hdf5.byte_search import hdf5_start, places_of

if TYPE_CHECKING:
    from pathlib import Path

_SIGNATURE = b"GCOL"
_HEADER = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")
_FREE_SPACE = 0


def heaps_are_sound(path: Path) -> bool:
    """Tell whether every heap in a file can be walked to its end.

    Every place that starts like a heap is looked at, because a damaged reference may lead to any of them.

    Args:
        path: an HDF5 file.

    Returns:
        False for a damaged heap, and for a file whose lengths are not 8 bytes, the only size in use.

    Raises:
        OSError: from the file system.
    """
    known = path.stat()
    return _all_sound(path, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=8)
def _all_sound(path: Path, _changed_ns: int, _size: int) -> bool:
    """Look once at a file that is asked about for every text in it, as long as it does not change."""
    with path.open("rb") as stream:
        start = hdf5_start(stream)
        if start is None:
            return False
        stream.seek(start)
        if not _has_long_lengths(stream.read(16)):
            return False
        return all(_is_sound(stream, offset) for offset in places_of(stream, _SIGNATURE))


def _has_long_lengths(superblock: bytes) -> bool:
    """Look up the size of lengths: byte 14 in a superblock of version 0 or 1, byte 10 in a later one."""
    return len(superblock) == 16 and superblock[14 if superblock[8] < 2 else 10] == 8


def _is_sound(stream: IO[bytes], offset: int) -> bool:
    stream.seek(offset)
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return False
    _, _, size = _HEADER.unpack(header)
    position = _HEADER.size
    while position + _OBJECT.size <= size:
        stream.seek(offset + position)
        entry = stream.read(_OBJECT.size)
        if len(entry) < _OBJECT.size:
            return False
        index, _, length = _OBJECT.unpack(entry)
        needed = length if index == _FREE_SPACE else _OBJECT.size + -(-length // 8) * 8
        if needed < _OBJECT.size or position + needed > size:
            return False
        position += needed
    return True
