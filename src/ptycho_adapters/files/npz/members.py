"""Arrays out of an NPZ file: nothing is executed, nothing is allocated that the file cannot fill."""

from __future__ import annotations

import lzma
import math
import pickletools
import struct
import sys
import tokenize
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

import attrs
import numpy as np
from numpy.lib import format as npy

from ptycho_adapters.files.in_file import InFile, in_order_only
from ptycho_adapters.files.memory import room_problem, with_mapping
from ptycho_adapters.files.pattern_map import BYTES_AT_ONCE, NOT_MAPPABLE
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ptycho_adapters.files.pattern_map import PatternMap
    from ptycho_core.any_array import AnyArray

# Everything that the zip and npy decoders raise on damaged input.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    TypeError,
    EOFError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
# Deflate cannot do better than this, so a larger declared size is a lie.
_LARGEST_DEFLATE_RATIO = 1032
_SLACK_BYTES = 1 << 16
_PATTERN_KEYS = frozenset({"diff3d", "diffraction", "patterns"})
_TEXT_OPCODES = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})


@attrs.frozen(kw_only=True)
class NpyHeader:
    """What an array says about itself before its numbers come."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]


def open_archive(path: Path) -> zipfile.ZipFile | Problem:
    """Open an NPZ file, or say what keeps it from being opened."""
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        return _damaged("file", error, "a complete NPZ (zip) file")


def member_keys(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo] | Problem:
    """List the members by array name; a name that comes twice is a problem."""
    infos = archive.infolist()
    keys = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(keys) != len(infos):
        return Problem(path="file", expected="every key once", found=f"{len(infos)} members, {len(keys)} keys")
    return keys


def read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, pattern_map: PatternMap | InFile | None = None
) -> AnyArray | Problem:
    """Read one array; pickled objects, damaged bytes and false sizes are problems that name the key.

    Args:
        archive: the file.
        info: the array's member.
        pattern_map: where to put it, some frames at a time, instead of into memory; it cannot be left where it is.
    """
    key = info.filename.removesuffix(".npy")
    onto = None if isinstance(pattern_map, InFile) else pattern_map
    try:
        with archive.open(info) as stream:
            header = _read_header(stream)
            problem = _size_problem(key, header, info, stream.tell())
            if isinstance(pattern_map, InFile) and pattern_map.always:
                problem = problem or in_order_only(key)
            if problem is None and onto is not None and onto.takes(header.shape, header.dtype):
                if header.fortran_order:
                    return attrs.evolve(NOT_MAPPABLE, path=key)
                return onto.add(key, header.shape, header.dtype, _pieces(stream, header))
            problem = problem or room_problem(key, info.file_size)
            if problem is not None:
                return with_mapping(problem) if key in _PATTERN_KEYS else problem
            content = stream.read()
            if header.dtype.kind == "U" and not _is_text(content, header.dtype):
                return Problem(path=key, expected="text", found="numbers that are no letters")
            return np.frombuffer(content, header.dtype).reshape(
                header.shape, order="F" if header.fortran_order else "C"
            )
    except DAMAGE as error:
        return _damaged(key, error, "an undamaged array")


def read_pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[AnyArray] | Problem:
    """Read a stack some frames at a time, never as a whole.

    Returns:
        Its pieces, which raise what `DAMAGE` names; a problem where they cannot be there.
    """
    key = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as stream:
            header = _read_header(stream)
            problem = _size_problem(key, header, info, stream.tell())
        if problem is None and header.fortran_order:
            problem = attrs.evolve(NOT_MAPPABLE, path=key)
        return problem or _member_pieces(archive, info)
    except DAMAGE as error:
        return _damaged(key, error, "an undamaged array")


def _member_pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[AnyArray]:
    with archive.open(info) as stream:
        yield from _pieces(stream, _read_header(stream))


def _pieces(stream: IO[bytes], header: NpyHeader) -> Iterator[AnyArray]:
    """Read some frames at a time."""
    n_frames, frame = header.shape[0], header.shape[1:]
    frame_bytes = math.prod(frame) * header.dtype.itemsize
    step = max(1, BYTES_AT_ONCE // frame_bytes)
    for first in range(0, n_frames, step):
        content = stream.read(min(step, n_frames - first) * frame_bytes)
        yield np.frombuffer(content, header.dtype).reshape(-1, *frame)


def _is_text(content: bytes, dtype: np.dtype[np.generic]) -> bool:
    """Tell whether all letters of an array of texts are in Unicode; Python fails on others at odd places."""
    letters = np.frombuffer(content[: len(content) // 4 * 4], np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    return bool((letters <= sys.maxunicode).all())


def read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NpyHeader | Problem:
    """Read an array's shape and dtype and leave its numbers alone."""
    try:
        with archive.open(info) as stream:
            return _read_header(stream)
    except DAMAGE as error:
        return _damaged(info.filename.removesuffix(".npy"), error, "an undamaged array")


def read_text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | Problem:
    """Read a single text, kept as text or as a pickled Python string.

    A pickled string is found by looking at the pickle's opcodes; the pickle is never run.
    """
    key = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as stream:
            pickled = _read_header(stream).dtype.hasobject
            if pickled:
                return _text_in_pickle(stream.read(), key)
    except DAMAGE as error:
        return _damaged(key, error, "an undamaged text")
    array = read_member(archive, info)
    if isinstance(array, Problem):
        return array
    if array.size != 1 or array.dtype.kind not in "US":
        return Problem(path=key, expected="one text", found=f"shape {array.shape} of {array.dtype}")
    value = array.ravel()[0]
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _read_header(stream: IO[bytes]) -> NpyHeader:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran_order, dtype = npy.read_array_header_2_0(stream)
    else:
        msg = f"npy version {version[0]}.{version[1]}"
        raise ValueError(msg)
    return NpyHeader(shape=shape, fortran_order=fortran_order, dtype=dtype)


def _size_problem(key: str, header: NpyHeader, info: zipfile.ZipInfo, header_bytes: int) -> Problem | None:
    if header.dtype.hasobject:
        return Problem(
            path=key,
            expected="an array of numbers",
            found="a pickled object array, which is not loaded because loading could run code",
            fix="save it again as a plain numeric array",
        )
    declared = math.prod(header.shape) * header.dtype.itemsize + header_bytes
    available = min(info.file_size, _LARGEST_DEFLATE_RATIO * info.compress_size + _SLACK_BYTES)
    if min(header.shape, default=0) < 0 or declared != info.file_size or declared > available:
        return Problem(
            path=key,
            expected=f"{declared} bytes for shape {header.shape} of {header.dtype}",
            found=f"{available} bytes",
        )
    return None


def _text_in_pickle(content: bytes, key: str) -> str | Problem:
    texts = [
        argument
        for opcode, argument, _ in pickletools.genops(content)
        if opcode.name in _TEXT_OPCODES and isinstance(argument, str) and argument.lstrip().startswith("{")
    ]
    if len(texts) == 1:
        return texts[0]
    return Problem(path=key, expected="one JSON text", found=f"a pickle with {len(texts)} of them")


def _damaged(key: str, error: BaseException, expected: str) -> Problem:
    text = " ".join(str(error).split()) or type(error).__name__
    return Problem(path=key, expected=expected, found=f"damaged data ({text})")
