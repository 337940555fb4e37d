"""Arrays of an HDF5 file as Keras writes it, read from its bytes.

The HDF5 library trusts sizes that stand in a file: a damaged one can keep it busy or fill the memory. Files of weights
use little of the format, and this reads that little: groups with symbol tables, contiguous or compact float32
datasets, texts as attributes. Each structure is looked at once at the most, so the effort is bounded by the file.
Layout: "HDF5 File Format Specification", version 0 and 1 structures.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.any_array import AnyArray

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_STRUCTURES = 1 << 14
_MOST_LEVELS = 8
_MOST_AXES = 8
_LONGEST_NAME = 256
_LARGEST_BLOCK = 1 << 16
_SOFT_LINK = 2
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _FILTERS = 0x01, 0x03, 0x07, 0x08, 0x0B
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 0x0C, 0x10, 0x11
_SHARED = 2
_COMPACT, _CONTIGUOUS = 0, 1
_FIXED_TEXT, _VARIABLE = 3, 9
# Class, order of bytes, size, and where sign, exponent and mantissa lie: IEEE, little-endian, 32 bits.
_FLOAT32 = bytes.fromhex("11201f00 04000000 00002000 17080017 7f000000")

Messages = list[tuple[int, bytes]]


class LayoutError(ValueError):
    """A file that is damaged, or written in another way than Keras does."""


class Hdf5Arrays:
    """The content of a file.

    Args:
        content: all bytes of it.

    Raises:
        LayoutError: it is no HDF5 file, or of a later kind.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = _MOST_STRUCTURES
        if content[:8] != _SIGNATURE or content[8:9] not in (b"\0", b"\1"):
            raise LayoutError("no HDF5 file with a superblock of version 0 or 1")
        if content[13:15] != b"\x08\x08":
            raise LayoutError("offsets and lengths that are not of 8 bytes")
        base = 24 + 4 * content[8]
        if self._unpack("<Q", base) != (0,):
            raise LayoutError("an HDF5 file within another")
        (self.root,) = self._unpack("<Q", base + 40)

    def members(self, group: int) -> dict[str, int]:
        """Give the members of a group by name, as the places of their headers.

        Raises:
            LayoutError: the group is damaged, or has members elsewhere.
        """
        tables = [body for kind, body in self._messages(group) if kind == _SYMBOL_TABLE]
        if len(tables) != 1 or len(tables[0]) < 16:
            raise LayoutError("something else than a group, or one in a later form")
        tree, heap = struct.unpack_from("<QQ", tables[0])
        size, _, names = self._unpack("<8x3Q", heap)
        if self._signature(heap) != b"HEAP":
            raise LayoutError("a group without names")
        found: dict[str, int] = {}
        for place, header in self._symbols(tree, 0):
            name = self._name(names, size, place)
            if name in found:
                raise LayoutError(f"two members of the name {name[:40]!r}")
            found[name] = header
        return found

    def array(self, dataset: int) -> AnyArray:
        """Read a float32 array.

        Raises:
            LayoutError: it is of another type or stored in another way, or not within the file.
        """
        messages = self._messages(dataset)
        kinds = [kind for kind, _ in messages]
        if any(kinds.count(kind) != 1 for kind in (_DATASPACE, _DATATYPE, _LAYOUT)):
            raise LayoutError("something else than an array")
        if {_FILTERS, _EXTERNAL} & set(kinds):
            raise LayoutError("an array that is packed, or lies in another file")
        parts = dict(messages)
        if parts[_DATATYPE][: len(_FLOAT32)] != _FLOAT32:
            raise LayoutError("an array that is not float32")
        shape = _shape(parts[_DATASPACE])
        content = self._stored(parts[_LAYOUT])
        if len(content) != 4 * math.prod(shape):
            raise LayoutError(f"an array of shape {shape} in {len(content)} bytes")
        flat: AnyArray = np.frombuffer(content, "<f4")
        return flat.reshape(shape)

    def shape(self, dataset: int) -> tuple[int, ...]:
        """Give the shape of an array.

        Raises:
            LayoutError: there is none.
        """
        for kind, body in self._messages(dataset):
            if kind == _DATASPACE:
                return _shape(body)
        raise LayoutError("something else than an array")

    def text(self, node: int, name: str) -> str | None:
        """Read an attribute that is a text; None if there is none of that name.

        Raises:
            LayoutError: it is something else, or damaged.
        """
        for kind, body in self._messages(node):
            if kind == _ATTRIBUTE:
                found, datatype, data = _attribute(body)
                if found == name:
                    return self._text(datatype, data)
        return None

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise LayoutError("more structures than weights need")

    def _unpack(self, form: str, place: int) -> tuple[int, ...]:
        if place + struct.calcsize(form) > len(self._content):
            raise LayoutError("a structure beyond the end of the file")
        return struct.unpack_from(form, self._content, place)

    def _signature(self, place: int) -> bytes:
        return self._content[place : place + 4]

    def _piece(self, place: int, size: int) -> memoryview:
        if place + size > len(self._content):
            raise LayoutError("content beyond the end of the file")
        # No copy: several arrays may lie at one place.
        return memoryview(self._content)[place : place + size]

    def _messages(self, header: int) -> Messages:
        """Give the messages of an object's header, with those of its continuations."""
        version, _, count, _, size = self._unpack("<BBHII", header)
        if version != 1:
            raise LayoutError("a header of a later kind")
        blocks, messages = [(header + 16, size)], Messages()
        while blocks and len(messages) < count:
            self._count()
            place, size = blocks.pop(0)
            if size > _LARGEST_BLOCK:
                raise LayoutError("a header larger than weights need")
            for kind, flags, body in _split(bytes(self._piece(place, size))):
                if len(messages) == count:
                    break
                if flags & _SHARED:
                    raise LayoutError("a message that is shared")
                messages.append((kind, body))
                if kind == _CONTINUATION and len(body) >= 16:
                    blocks.append(struct.unpack_from("<QQ", body))
        return messages

    def _symbols(self, node: int, level: int) -> Iterator[tuple[int, int]]:
        """Give name places and header places of a group's tree."""
        self._count()
        kind, depth, used = self._unpack("<4xBBH", node)
        signature = self._signature(node)
        if signature == b"SNOD":
            yield from self._entries(node)
            return
        if signature != b"TREE" or kind != 0 or level > _MOST_LEVELS or depth > _MOST_LEVELS:
            raise LayoutError("a group with a damaged tree")
        for number in range(used):
            (child,) = self._unpack("<Q", node + 32 + 16 * number)
            yield from self._symbols(child, level + 1)

    def _entries(self, node: int) -> Iterator[tuple[int, int]]:
        (used,) = self._unpack("<H", node + 6)
        for number in range(used):
            self._count()
            name, header, kind = self._unpack("<QQI", node + 8 + 40 * number)
            if kind == _SOFT_LINK:
                raise LayoutError("a link in place of a member")
            yield name, header

    def _name(self, names: int, size: int, place: int) -> str:
        if place >= size:
            raise LayoutError("a name beyond the end of its heap")
        raw = self._piece(names + place, min(_LONGEST_NAME, size - place))
        return bytes(raw).partition(b"\0")[0].decode("utf-8", errors="replace")

    def _stored(self, layout: bytes) -> bytes | memoryview:
        if layout[:1] != b"\3" or layout[1:2] not in (b"\0", b"\1") or len(layout) < 18 - 14 * (layout[1] == _COMPACT):
            raise LayoutError("an array that is not in one piece")
        if layout[1] == _COMPACT:
            (size,) = struct.unpack_from("<H", layout, 2)
            return layout[4 : 4 + size]
        place, size = struct.unpack_from("<QQ", layout, 2)
        return self._piece(place, size)

    def _text(self, datatype: bytes, data: bytes) -> str:
        kind = datatype[0] & 0x0F
        if kind == _FIXED_TEXT:
            return data.rstrip(b"\0").decode("utf-8", errors="replace")
        if kind != _VARIABLE or len(data) < 16:
            raise LayoutError("an attribute that is no text")
        length, heap, index = struct.unpack_from("<IQI", data)
        if length > _LONGEST_NAME:
            raise LayoutError("a name of more than 256 letters")
        return bytes(self._heap_object(heap, index)[:length]).decode("utf-8", errors="replace")

    def _heap_object(self, heap: int, wanted: int) -> memoryview:
        (size,) = self._unpack("<8xQ", heap)
        place, end = heap + 16, heap + size
        if self._signature(heap) != b"GCOL" or end > len(self._content):
            raise LayoutError("a damaged heap of texts")
        while place + 16 <= end:
            self._count()
            index, _, length = self._unpack("<HH4xQ", place)
            if index == wanted:
                return self._piece(place + 16, min(length, _LONGEST_NAME))
            if index == 0:
                break
            place += 16 + -(-length // 8) * 8
        raise LayoutError("a text that is not in its heap")


def _split(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Give the messages of a block: kind, flags and content."""
    place = 0
    while place + 8 <= len(block):
        kind, size, flags = struct.unpack_from("<HHB", block, place)
        yield kind, flags, block[place + 8 : place + 8 + size]
        place += 8 + size


def _shape(dataspace: bytes) -> tuple[int, ...]:
    version, axes = dataspace[0], dataspace[1]
    start = {1: 8, 2: 4}.get(version)
    if start is None or axes > _MOST_AXES or len(dataspace) < start + 8 * axes:
        raise LayoutError("an array without a shape")
    return struct.unpack_from(f"<{axes}Q", dataspace, start)


def _attribute(body: bytes) -> tuple[str, bytes, bytes]:
    """Give name, type and content of an attribute."""
    version = body[0]
    if version not in (1, 2, 3) or len(body) < 9:
        raise LayoutError("an attribute in a later form")
    sizes = struct.unpack_from("<HHH", body, 2)
    steps = [-(-size // 8) * 8 for size in sizes] if version == 1 else sizes
    name = 9 if version == 3 else 8
    datatype = name + steps[0]
    data = datatype + steps[1] + steps[2]
    kind = body[datatype : datatype + sizes[1]]
    if not kind or data > len(body):
        raise LayoutError("a damaged attribute")
    return body[name : name + sizes[0]].partition(b"\0")[0].decode("utf-8", errors="replace"), kind, body[data:]
