"""Messages of a detector's stream, version 1: JSON headers with frames between them.

DECTRIS, SIMPLON API Reference: `dheader-1.0` begins a series, `dimage-1.0` is followed by `dimage_d-1.0` with shape,
type and encoding, by the frame, and by its times; `dseries_end-1.0` ends the series. Frames are counted from 0.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem, ScanError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ENCODING = re.compile(r"(?:bs(?P<bits>8|16|32)-?)?(?P<lz4>lz4)?(?P<order>[<>])")
_TYPES = frozenset({"uint8", "uint16", "uint32"})
_CBOR_FIRST = frozenset({0xD9, *range(0xA0, 0xC0)})  # a tag of two bytes, or a map


@attrs.frozen(kw_only=True)
class Kind:
    """How the frames of a series are written.

    Attributes:
        shape: (H, W).
        dtype: of the pixels, byte order included.
        shuffled: whether their bits are.
        lz4: whether they are compressed.
    """

    shape: tuple[int, int]
    dtype: np.dtype[np.unsignedinteger]
    shuffled: bool
    lz4: bool


@attrs.frozen(kw_only=True)
class Begin:
    """A series begins.

    Attributes:
        series: its number.
    """

    series: int


@attrs.frozen(kw_only=True, eq=False)
class RawFrame:
    """A frame as it was sent.

    Attributes:
        series: that it is of.
        number: its place in it, from 0.
        kind: how it is written.
        content: its bytes.
    """

    series: int
    number: int
    kind: Kind
    content: bytes


@attrs.frozen(kw_only=True)
class End:
    """A series has ended.

    Attributes:
        series: its number.
    """

    series: int


Message = Begin | RawFrame | End


def read_message(parts: Sequence[bytes], where: str) -> Message | None:
    """Read a message; None for one of a kind that says nothing about frames.

    Args:
        parts: of the message.
        where: it came from, for messages of errors.

    Raises:
        ScanError: it is of another protocol, or incomplete, or its frame is of a kind that is not read.
    """
    header = _json(parts[0] if parts else b"", where)
    name = str(header.get("htype", "")).partition("-")[0]
    try:
        match name:
            case "dheader":
                return Begin(series=int(str(header["series"])))
            case "dseries_end":
                return End(series=int(str(header["series"])))
            case "dimage":
                return RawFrame(
                    series=int(str(header["series"])),
                    number=int(str(header["frame"])),
                    kind=_kind(_json(parts[1], where), where),
                    content=parts[2],
                )
            case _:
                return None
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, ScanError):
            raise
        expected, found = "headers with series, frame, shape, type and encoding, then the frame", f"{error!r}"
        raise ScanError(where, [Problem(path=f"message {name}", expected=expected, found=found)]) from None


def _kind(header: Mapping[str, object], where: str) -> Kind:
    encoding, name, shape = str(header["encoding"]), str(header["type"]), header["shape"]
    told = _ENCODING.fullmatch(encoding)
    if told is None or (told["bits"] and not told["lz4"]):
        expected, fix = "bs16-lz4<, bs32-lz4<, lz4< or <", "set the detector's compression to bslz4, lz4 or none"
        raise ScanError(where, [Problem(path="encoding", expected=expected, found=encoding, fix=fix)])
    dtype = np.dtype(name).newbyteorder("<" if told["order"] == "<" else ">") if name in _TYPES else None
    if dtype is None or (told["bits"] and int(told["bits"]) != 8 * dtype.itemsize):
        expected = f"one of {sorted(_TYPES)}, of as many bits as {encoding} says"
        raise ScanError(where, [Problem(path="type", expected=expected, found=name)])
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ScanError(where, [Problem(path="shape", expected="[width, height]", found=str(shape))])
    # The axis that runs fastest comes first.
    return Kind(shape=(shape[1], shape[0]), dtype=dtype, shuffled=bool(told["bits"]), lz4=bool(told["lz4"]))


def _json(part: bytes, where: str) -> Mapping[str, object]:
    try:
        content = json.loads(part)
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    cbor = bool(part) and part[0] in _CBOR_FIRST
    found = "CBOR, as version 2 of the stream has it" if cbor else f"{part[:16]!r}"
    fix = "set the detector's stream to the format `legacy`" if cbor else ""
    expected = "a JSON header, as version 1 of the detector's stream has it"
    raise ScanError(where, [Problem(path="message", expected=expected, found=found, fix=fix)])
