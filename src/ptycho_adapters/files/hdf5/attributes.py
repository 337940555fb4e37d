"""How long the texts of an HDF5 file's attributes claim to be, before the HDF5 library makes room for them.

A text of variable length is kept as its length and its place in a heap; the library allocates the length before it
looks at the heap. Layout: "HDF5 File Format Specification", sections IV.A.2.m (Attribute Message) and III.E.
"""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING

from ptycho_adapters.files.hdf5.byte_search import places_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Version, flags, and the sizes of name, type and extent; from version 3 on the name's character set follows.
_HEADER = struct.Struct("<BBHHH")
# Length, and the place of the text: a heap and a number in it.
_REFERENCE = struct.Struct("<IQI")
_PADDED_TO = {1: 8, 2: 1, 3: 1}
_VARIABLE_LENGTH = 9
_SHARED_TYPE = 1


def longest_claim(path: Path, name: str, number: int = 1) -> int | None:
    """Give the largest length that any attribute of this name claims for a text of variable length.

    Every place in the file that starts like such an attribute is looked at.

    Args:
        path: an HDF5 file.
        name: of the attribute.
        number: how many texts it is.

    Returns:
        The length in bytes, None when no attribute of this name holds such a text.

    Raises:
        OSError: from the file system.
    """
    pattern = name.encode() + b"\0"
    with path.open("rb") as stream:
        claims = [
            claim for place in places_of(stream, pattern) for claim in _claims(stream, place, len(pattern), number)
        ]
    return max(claims, default=None)


def _claims(stream: IO[bytes], place: int, name_bytes: int, number: int) -> Iterator[int]:
    """Read the lengths that stand in an attribute whose name is at this place, in each version that it can be of."""
    for distance, versions in ((_HEADER.size, (1, 2)), (_HEADER.size + 1, (3,))):
        if place < distance:
            continue
        stream.seek(place - distance)
        version, flags, name_size, type_size, extent_size = _HEADER.unpack(stream.read(_HEADER.size))
        if version not in versions or name_size != name_bytes:
            continue
        padded = [-(-size // _PADDED_TO[version]) * _PADDED_TO[version] for size in (name_size, type_size, extent_size)]
        stream.seek(place + padded[0])
        kind = stream.read(1)
        stream.seek(place + sum(padded))
        references = stream.read(number * _REFERENCE.size)
        shared = version > 1 and flags & _SHARED_TYPE
        if kind and (shared or kind[0] & 0x0F == _VARIABLE_LENGTH):
            whole = references[: len(references) // _REFERENCE.size * _REFERENCE.size]
            yield from (int(length) for length, _, _ in _REFERENCE.iter_unpack(whole))
