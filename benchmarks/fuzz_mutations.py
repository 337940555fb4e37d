"""Ways to damage a file, all drawn from one generator."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

_EDGE = 2048
_INTERESTING = (
    0,
    1,
    2,
    4,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0xFFFFFFFF,
    2**40,
    2**63,
    2**64 - 1,
)


def damaged(content: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """A file with one to four kinds of damage.

    Args:
        content: a valid file.
        others: files to splice from.
        rng: where every choice comes from.
    """
    if content.startswith(b"PK\x03\x04") and rng.random() < 0.5:
        return _rezipped(content, rng)
    return _spoiled(content, others, rng)


def _spoiled(content: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    spoiled = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        _KINDS[int(rng.integers(len(_KINDS)))](spoiled, others, rng)
    return bytes(spoiled)


def _rezipped(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage inside a member, whose checksum is right all the same."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[int(rng.integers(len(members)))]
    members[name] = _spoiled(members[name], list(members.values()), rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return buffer.getvalue()


def _place(spoiled: bytearray, rng: np.random.Generator) -> int:
    """A place in the file; the ends, where structures lie, more often than the middle."""
    size = max(len(spoiled), 1)
    draw = rng.random()
    if draw < 0.4:
        return int(rng.integers(min(size, _EDGE)))
    if draw < 0.6:
        return size - 1 - int(rng.integers(min(size, _EDGE)))
    return int(rng.integers(size))


def _flip_bits(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 17))):
        if spoiled:
            spoiled[_place(spoiled, rng)] ^= 1 << int(rng.integers(8))


def _set_bytes(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 9))):
        if spoiled:
            spoiled[_place(spoiled, rng)] = int(rng.integers(256))


def _set_number(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    """Write an interesting number where one may lie."""
    width = int(rng.choice([1, 2, 4, 8]))
    place = _place(spoiled, rng) // width * width
    number = _INTERESTING[int(rng.integers(len(_INTERESTING)))] % 2 ** (8 * width)
    spoiled[place : place + width] = number.to_bytes(width, "little" if rng.random() < 0.8 else "big")


def _truncate(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    del spoiled[_place(spoiled, rng) :]


def _cut_out(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    place = _place(spoiled, rng)
    del spoiled[place : place + int(rng.integers(1, 65))]


def _insert(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    place = _place(spoiled, rng)
    spoiled[place:place] = rng.bytes(int(rng.integers(1, 65)))


def _overwrite(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    place, length = _place(spoiled, rng), int(rng.integers(1, 129))
    length = min(length, len(spoiled) - place)
    spoiled[place : place + length] = bytes([int(rng.choice([0x00, 0xFF, 0x20]))]) * length


def _copy_within(spoiled: bytearray, _others: Sequence[bytes], rng: np.random.Generator) -> None:
    start, place, length = _place(spoiled, rng), _place(spoiled, rng), int(rng.integers(1, 513))
    piece = spoiled[start : start + length]
    spoiled[place : place + len(piece)] = piece


def _splice(spoiled: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    """Bring in a piece of another file."""
    other = others[int(rng.integers(len(others)))]
    start, length = int(rng.integers(max(len(other), 1))), int(rng.integers(1, 4097))
    place = _place(spoiled, rng)
    piece = other[start : start + length]
    spoiled[place : place + (len(piece) if rng.random() < 0.7 else 0)] = piece


_KINDS: tuple[Callable[[bytearray, Sequence[bytes], np.random.Generator], None], ...] = (
    _flip_bits,
    _flip_bits,
    _set_bytes,
    _set_number,
    _set_number,
    _set_number,
    _truncate,
    _cut_out,
    _insert,
    _overwrite,
    _copy_within,
    _splice,
)
