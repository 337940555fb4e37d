"""The patterns of a scan in a file of their own, filled piece by piece and then mapped: never in memory all at once.

The file is one uncompressed array in NumPy's format. While a reader is at work on it, it has a temporary name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.lib import format as npy

from ptycho_adapters.files.in_place import sealed
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.checks import PATTERN_DTYPES
from ptycho_core.memory import in_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import IO

BYTES_AT_ONCE = 1 << 22
_SUFFIX = "patterns.npy"
_Dtype: TypeAlias = np.dtype[np.generic]
_WIDENED: Mapping[_Dtype, _Dtype] = {
    np.dtype(np.uint8): np.dtype(np.uint16),
    np.dtype(np.float16): np.dtype(np.float32),
}
# Looked at as unsigned ones once it is known that none is negative.
_SIGNED = (np.dtype(np.int16), np.dtype(np.int32))


def map_name(path: Path) -> str:
    """Give the name of the map of a scan file: the same for the same file, another for any other of that name."""
    whole = path.resolve()
    digest = hashlib.sha256(os.fsencode(whole)).hexdigest()
    return f"{whole.stem}-{digest[:12]}.{_SUFFIX}"


class PatternMap:
    """A file that the patterns of one scan are put into.

    Args:
        path: the file; it is made when the first pattern comes.

    Attributes:
        full_scale: largest number of the unsigned type that patterns came in and were widened from, if they were.
    """

    def __init__(self, path: Path) -> None:
        self.full_scale: int | None = None
        self._path = path
        self._map: np.memmap[tuple[int, ...], np.dtype[np.generic]] | None = None

    @staticmethod
    def takes(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
        """Tell whether an array can be patterns at all; what cannot is left for validation to refuse."""
        return len(shape) in (3, 4) and min(shape) > 0 and dtype.kind in "iuf" and dtype.itemsize <= 8

    def add(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], pieces: Iterable[AnyArray]
    ) -> AnyArray | Problem:
        """Put patterns into the file, after those that are there.

        Args:
            key: their name where they come from, for messages.
            shape: (n, ...) of all pieces together.
            dtype: of the pieces; one that a scan does not keep is widened as it is in memory.
            pieces: some frames each, in order.

        Returns:
            All patterns in the file, mapped and sealed; `in_place.unsealed` opens them. A problem where the folder has
            no room, or where the numbers fit none of the dtypes of a scan.
        """
        kept_as, before = _kept_as(dtype), self._map
        if before is not None and (before.shape[1:] != shape[1:] or before.dtype != kept_as):
            found = f"shape {shape} of {dtype}"
            return Problem(path=key, expected=f"frames that continue {describe(before)}", found=found)
        n_bytes, free = int(np.prod(shape)) * kept_as.itemsize, shutil.disk_usage(self._path.parent).free
        if n_bytes > free:
            expected, found = f"room for {in_units(n_bytes)} in {self._path.parent}", f"{in_units(free)} free"
            return Problem(path=key, expected=expected, found=found, fix="choose another folder for the map")
        n_before = 0 if before is None else len(before)
        with self._path.open("wb" if before is None else "r+b") as stream:
            _write_header(stream, (n_before + shape[0], *shape[1:]), kept_as)
            stream.seek(0, os.SEEK_END)
            for piece in pieces:
                if kept_as != dtype.newbyteorder("=") and (problem := _misfit(key, piece, kept_as)) is not None:
                    return problem
                stream.write(np.ascontiguousarray(piece.astype(kept_as, copy=False)).data)
        if dtype.kind == "u" and dtype.itemsize < kept_as.itemsize:
            self.full_scale = _largest(dtype)
        self._map = npy.open_memmap(self._path, mode="r+")
        return sealed(self._map)

    def finish(self, patterns: AnyArray, source: Path) -> None:
        """Let the file say what the patterns have become: dropped frames and a dtype without a sign.

        Args:
            patterns: of the scan; the map, or a part that begins where it does.
            source: where they come from, for messages.

        Raises:
            ScanFileError: they are no part of the map, because they had to be rearranged in memory.
        """
        whole = self._map
        is_part = (
            whole is not None
            and isinstance(patterns, np.memmap)
            and patterns.flags.c_contiguous
            and patterns.ctypes.data == whole.ctypes.data
            and patterns.dtype.itemsize == whole.dtype.itemsize
        )
        if whole is None or not is_part:
            raise ScanFileError(str(source), [NOT_MAPPABLE])
        whole.flush()
        with self._path.open("r+b") as stream:
            _write_header(stream, patterns.shape, patterns.dtype)
            if stream.tell() != whole.offset:
                raise ScanFileError(str(source), [NOT_MAPPABLE])
            stream.truncate(whole.offset + patterns.nbytes)


NOT_MAPPABLE = Problem(
    path="patterns",
    expected="patterns (n, N, N) one after the other, as a map has them",
    found="an order that can only be changed in memory",
    fix="write the scan anew with `ptycho convert`, on a machine with enough memory, and map that file",
)


def _kept_as(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Choose the dtype in the map: the one that a scan keeps such numbers in, or one of its size with a sign."""
    native = dtype.newbyteorder("=")
    if native in PATTERN_DTYPES or native in _SIGNED:
        return native
    widened: np.dtype[np.generic] = _WIDENED.get(native, np.dtype(np.uint32))
    return widened


def _misfit(key: str, piece: AnyArray, dtype: np.dtype[np.generic]) -> Problem | None:
    """Say where integers are out of the range of a narrower dtype."""
    if piece.dtype.kind not in "iu" or dtype.kind != "u":
        return None
    low, high, limit = int(np.min(piece)), int(np.max(piece)), _largest(dtype)
    if low >= 0 and high <= limit:
        return None
    return Problem(
        path=key,
        expected=f"whole numbers from 0 to {limit}, where {piece.dtype} is to be mapped",
        found=f"values from {low} to {high}",
        fix="keep them as int32 or floating-point numbers in the file, or leave out memory_map= or --memory-map",
    )


def _largest(dtype: np.dtype[np.generic]) -> int:
    """Give the largest number of an unsigned type."""
    return int(2 ** (8 * dtype.itemsize) - 1)


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Write the header at the beginning; NumPy leaves room in it for any number of frames."""
    stream.seek(0)
    header = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
    npy.write_array_header_1_0(stream, header)
