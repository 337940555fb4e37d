"""Variables of a SavedModel as arrays, without TensorFlow.

`variables.index` is a sorted table of blocks, each of keys that share their beginnings, with an index of blocks and a
footer; its values are small protocol buffers that say type, shape, place and size of an array in the data file.
Layout: LevelDB's table format, and `tensor_bundle.proto` of TensorFlow.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import ArchiveError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_core.any_array import AnyArray

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_MOST_ENTRIES = 4096
_LONGEST_NUMBER = 10
_FLOAT32 = 1
_TYPE, _SHAPE, _SHARD, _PLACE, _BYTES = 1, 2, 3, 4, 5
_DIMENSION, _SIZE = 2, 1
_VARINT, _FIXED64, _TEXT, _FIXED32 = 0, 1, 2, 5
_MOST_AXES = 8


@attrs.frozen(kw_only=True)
class _Entry:
    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    place: int = 0
    size: int = 0


def read_variables(index: bytes, data: bytes, subject: str, prefix: str) -> Mapping[str, AnyArray]:
    """Read the float32 variables whose key begins in a certain way.

    Args:
        index: `variables.index`.
        data: `variables.data-00000-of-00001`.
        subject: what they are called in errors.
        prefix: beginning of the keys that are wanted; others are passed over.

    Returns:
        Arrays by key.

    Raises:
        ArchiveError: the table is damaged, or an array lies outside of the data or is of another type.
    """
    found: dict[str, AnyArray] = {}  # views of the data, no copies
    try:
        for key, value in _table(index):
            name = key.decode()
            if name.startswith(prefix):
                found[name] = _array(_entry(value), data, name, subject)
    except (ValueError, IndexError, struct.error) as error:
        if isinstance(error, ArchiveError):
            raise
        problem = Problem(path="variables.index", expected="a complete table of variables", found=str(error)[:100])
        raise ArchiveError(subject, [problem]) from error
    return found


def _array(entry: _Entry, data: bytes, name: str, subject: str) -> AnyArray:
    size = 4 * math.prod(entry.shape)
    problem = None
    if entry.dtype != _FLOAT32:
        problem = Problem(path=name, expected="float32", found=f"type {entry.dtype} of TensorFlow")
    elif entry.shard != 0 or entry.size != size or entry.place + size > len(data):
        found = f"{entry.size} bytes at {entry.place} of file {entry.shard}"
        problem = Problem(path=name, expected=f"{size} bytes for {entry.shape} within {len(data)}", found=found)
    if problem is not None:
        raise ArchiveError(subject, [problem])
    flat: AnyArray = np.frombuffer(data, "<f4", count=size // 4, offset=entry.place)
    return flat.reshape(entry.shape)


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give keys and values in order."""
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack_from("<Q", footer, _FOOTER_BYTES - 8)[0] != _MAGIC:
        raise ValueError("no table")
    # Where a block of other facts lies comes first.
    _, position = _number(footer, 0)
    _, position = _number(footer, position)
    count = 0
    for _, place in _block(table, *_handle(footer, position)):
        for key, value in _block(table, *_handle(place, 0)):
            count += 1
            if count > _MOST_ENTRIES:
                raise ValueError(f"more than {_MOST_ENTRIES} entries")
            yield key, value


def _handle(content: bytes, position: int) -> tuple[int, int]:
    start, position = _number(content, position)
    size, _ = _number(content, position)
    return start, size


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Give the entries of a block; each key repeats the beginning of the one before it."""
    if start + size + _TRAILER_BYTES > len(table):
        raise ValueError("a block beyond the end")
    if table[start + size] != 0:
        raise ValueError("a compressed block")
    content = table[start : start + size]
    (restarts,) = struct.unpack_from("<I", content, len(content) - 4)
    end = len(content) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block without room for its entries")
    key, position = b"", 0
    while position < end:
        shared, position = _number(content, position)
        own, position = _number(content, position)
        length, position = _number(content, position)
        if shared > len(key) or position + own + length > end:
            raise ValueError("an entry beyond the end of its block")
        key = key[:shared] + content[position : position + own]
        position += own
        yield key, content[position : position + length]
        position += length


def _entry(value: bytes) -> _Entry:
    numbers = {_TYPE: 0, _SHARD: 0, _PLACE: 0, _BYTES: 0}
    shape: tuple[int, ...] = ()
    for field, content in _fields(value):
        if field == _SHAPE and isinstance(content, bytes):
            shape = tuple(_dimensions(content))
        elif field in numbers and isinstance(content, int):
            numbers[field] = content
    if len(shape) > _MOST_AXES:
        raise ValueError(f"an array of {len(shape)} axes")
    return _Entry(dtype=numbers[_TYPE], shape=shape, shard=numbers[_SHARD], place=numbers[_PLACE], size=numbers[_BYTES])


def _dimensions(shape: bytes) -> Iterator[int]:
    for field, content in _fields(shape):
        if field == _DIMENSION and isinstance(content, bytes):
            sizes = [size for name, size in _fields(content) if name == _SIZE]
            yield int(sizes[-1]) if sizes else 0


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give the fields of a protocol buffer by number."""
    position = 0
    while position < len(message):
        tag, position = _number(message, position)
        kind = tag & 7
        content: int | bytes
        if kind == _VARINT:
            content, position = _number(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            content, position = message[position : position + size], position + size
        elif kind == _TEXT:
            size, position = _number(message, position)
            content, position = message[position : position + size], position + size
        else:
            raise ValueError(f"a field of kind {kind}")
        if position > len(message):
            raise ValueError("a field beyond the end")
        yield tag >> 3, content


def _number(content: bytes, position: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; give it and the position behind it."""
    value = 0
    for place in range(_LONGEST_NUMBER):
        byte = content[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError("a number that does not end")
