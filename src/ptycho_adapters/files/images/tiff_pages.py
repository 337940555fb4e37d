"""The pages of a plain TIFF file: uncompressed images of one number per pixel, and nothing else.

Readers that know all of TIFF follow a damaged file a long way; this one walks a bounded list of directories and takes
strips that lie in the file. Layout: TIFF 6.0, sections 2 and 8, and its 64-bit sibling BigTIFF.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES, _SIZES, _KIND = 256, 257, 258, 259, 273, 277, 279, 339
_WANTED = frozenset({_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES, _SIZES, _KIND})
_MOST_PAGES = 4096
_MOST_ENTRIES = 512
_NUMBERS: Mapping[int, str] = MappingProxyType({1: "u1", 3: "u2", 4: "u4", 16: "u8"})
_KINDS: Mapping[int, str] = MappingProxyType({1: "u", 2: "i", 3: "f", 6: "c"})
_DTYPES = frozenset({"f4", "f8", "c8", "c16"})


@attrs.frozen
class _Layout:
    """How a TIFF file writes its numbers: byte order, and the widths of classic TIFF or BigTIFF."""

    order: str
    is_big: bool

    @property
    def offset(self) -> struct.Struct:
        """Where something is."""
        return struct.Struct(self.order + ("Q" if self.is_big else "I"))

    @property
    def count(self) -> struct.Struct:
        """How many entries a directory has."""
        return struct.Struct(self.order + ("Q" if self.is_big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, count and value of an entry."""
        return struct.Struct(self.order + ("HHQ8s" if self.is_big else "HHI4s"))


def read_pages(path: Path) -> list[AnyArray] | Problem:
    """Read the pages of a file.

    Args:
        path: a TIFF file of uncompressed float32, float64, complex64 or complex128 pages in strips.

    Returns:
        Arrays (H, W), or what keeps them from being read.

    Raises:
        OSError: from the file system.
    """
    content = path.read_bytes()
    try:
        return _pages(content)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return Problem(path="file", expected="an undamaged TIFF", found=f"damaged data ({text})")


def _pages(content: bytes) -> list[AnyArray] | Problem:
    layout, place = _header(content)
    pages: list[AnyArray] = []
    taken = 0
    while place:
        if len(pages) == _MOST_PAGES:
            return Problem(path="file", expected=f"at most {_MOST_PAGES} pages", found="more")
        tags, place = _directory(content, layout, place)
        page = _page(content, layout, tags)
        if isinstance(page, Problem):
            return page
        taken += page.nbytes
        if taken > len(content):
            return Problem(path="file", expected="pages that do not share their numbers", found="more than the file")
        pages.append(page)
    return pages or Problem(path="file", expected="at least one page", found="none")


def _header(content: bytes) -> tuple[_Layout, int]:
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    (version,) = struct.unpack_from(order + "H", content, 2)
    if version not in (42, 43):
        raise ValueError(f"version {version}")
    layout = _Layout(order, version == 43)
    (first,) = layout.offset.unpack_from(content, 8 if layout.is_big else 4)
    return layout, int(first)


def _directory(content: bytes, layout: _Layout, place: int) -> tuple[dict[int, list[int]], int]:
    """Read the numbers of a directory by tag, and where the next directory is."""
    (count,) = layout.count.unpack_from(content, place)
    if count > _MOST_ENTRIES:
        raise ValueError(f"{count} entries in a directory")
    place += layout.count.size
    tags: dict[int, list[int]] = {}
    for _ in range(count):
        tag, kind, length, value = layout.entry.unpack_from(content, place)
        if tag in _WANTED:
            tags[tag] = _values(content, layout, kind, length, value)
        place += layout.entry.size
    (following,) = layout.offset.unpack_from(content, place)
    return tags, int(following)


def _values(content: bytes, layout: _Layout, kind: int, length: int, value: bytes) -> list[int]:
    dtype = np.dtype(layout.order + _NUMBERS[kind])
    if not 0 < length <= len(content):
        raise ValueError(f"{length} values")
    if length * dtype.itemsize > len(value):
        (place,) = layout.offset.unpack(value)
        return [int(number) for number in np.frombuffer(content, dtype, length, place)]
    return [int(number) for number in np.frombuffer(value, dtype, length)]


def _page(content: bytes, layout: _Layout, tags: Mapping[int, list[int]]) -> AnyArray | Problem:
    (width, *_), (height, *_), bits = tags[_WIDTH], tags[_HEIGHT], tags[_BITS]
    compression, samples, kind = (tags.get(tag, [1])[0] for tag in (_COMPRESSION, _SAMPLES, _KIND))
    name = f"{_KINDS.get(kind, '?')}{bits[0] // 8}"
    if compression != 1 or samples != 1 or len(bits) != 1 or name not in _DTYPES or _OFFSETS not in tags:
        found = f"{samples} samples of {bits[0]} bits, sample format {kind}, compression {compression}"
        return Problem(path="file", expected="uncompressed float or complex pages in strips", found=found)
    dtype = np.dtype(layout.order + name)
    declared, sizes = width * height * dtype.itemsize, tags[_SIZES]
    strips = list(zip(tags[_OFFSETS], sizes, strict=True))
    inside = all(start + size <= len(content) for start, size in strips)
    if not inside or declared != sum(sizes) or not 0 < declared <= len(content):
        found = f"strips of {sum(sizes)} bytes in a file of {len(content)}"
        return Problem(path="file", expected=f"{declared} bytes for a page of {width}×{height} px", found=found)
    return np.frombuffer(b"".join(content[start : start + size] for start, size in strips), dtype).reshape(
        height, width
    )
