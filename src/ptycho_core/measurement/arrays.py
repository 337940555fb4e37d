"""Bring what a caller or a file gives into the dtypes of a scan, losing nothing.

What cannot be brought there is passed on as it is: `scan_checks` names it, together with everything else.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ptycho_core.frozen import read_only
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.stored import StoredPatterns, stored

_HALF, _KEPT_SIZES = 2, (2, 4)  # bytes of float16; of integers that a scan keeps

Patterns: TypeAlias = npt.NDArray[np.uint16 | np.uint32 | np.float32 | np.float64]


def as_patterns(value: npt.ArrayLike) -> Patterns:
    """Widen to the nearest dtype a detector's numbers are kept in: uint16, uint32, float32 or float64."""
    left = stored(value)
    if left is not None:
        return cast("Patterns", _widened(left))
    # A map of a file stays one: as a plain array it could not be told from one in memory.
    array = value if isinstance(value, np.memmap) else np.asarray(value)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if isinstance(array, np.memmap) and array.dtype in (np.int16, np.int32):
        # Widened, it would be in memory; with negative values it is no measurement, and refused as it is.
        stack = np.atleast_1d(array)
        fits = all(int(stack[some].min()) >= 0 for some in frame_slices(stack))
        array = array.view(array.dtype.str.replace("i", "u")) if fits else array
    elif array.dtype == np.uint8:
        array = array.astype(np.uint16)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype not in (np.uint16, np.uint32) and array.size:
        fits = int(array.min()) >= 0 and int(array.max()) <= np.iinfo(np.uint32).max
        array = array.astype(np.uint32 if fits else np.float64)
    return read_only(array)


def _widened(patterns: StoredPatterns) -> StoredPatterns:
    """Widen as arrays are, whenever frames are read."""
    kind, size = patterns.dtype.kind, patterns.dtype.itemsize
    if kind == "u" and size == 1:
        return patterns.as_type(np.dtype(np.uint16))
    if kind == "f" and size == _HALF:
        return patterns.as_type(np.dtype(np.float32))
    if kind not in "iu" or not patterns.size or (kind == "u" and size in _KEPT_SIZES):
        return patterns
    low, high = patterns.remembered("integer range", lambda: _integer_range(patterns))
    if kind == "i" and size in _KEPT_SIZES:
        # With negative values it is no measurement, and refused as it is.
        return patterns if low < 0 else patterns.as_type(np.dtype(f"u{size}"))
    fits = low >= 0 and high <= np.iinfo(np.uint32).max
    return patterns.as_type(np.dtype(np.uint32 if fits else np.float64))


def _integer_range(patterns: StoredPatterns) -> tuple[int, int]:
    ends = [
        (int(some.min()), int(some.max()))
        for some in (cast("npt.NDArray[np.int64]", patterns[each]) for each in frame_slices(patterns.as_array()))
    ]
    return min(low for low, _ in ends), max(high for _, high in ends)


def as_float64(value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Bring real numbers to float64."""
    array = np.asarray(value)
    if array.dtype.kind in "fiu":
        # A number too large for float64 becomes infinite here and is refused by validation.
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.float64, copy=False)
    return read_only(array)


def as_optional_float64(value: npt.ArrayLike | None) -> npt.NDArray[np.float64] | None:
    """Bring real numbers to float64, where there are any."""
    return None if value is None else as_float64(value)


def as_complex(value: npt.ArrayLike) -> npt.NDArray[np.complex64]:
    """Bring real or complex numbers to complex64."""
    array = np.asarray(value)
    if array.dtype.kind in "fc":
        # A number too large for complex64 becomes infinite here and is refused by validation.
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.complex64, copy=False)
    return read_only(array)


def as_probe(value: npt.ArrayLike) -> npt.NDArray[np.complex64]:
    """Bring a probe to (modes, N, N) complex64; (N, N) is one mode."""
    array = as_complex(value)
    return array[np.newaxis] if array.ndim == 2 else array


def as_object(value: npt.ArrayLike | None) -> npt.NDArray[np.complex64] | None:
    """Bring an object to complex64, where there is one."""
    return None if value is None else as_complex(value)


def as_mask(value: npt.ArrayLike | None) -> npt.NDArray[np.bool_] | None:
    """Seal a mask, where there is one; only bool passes validation."""
    return None if value is None else read_only(np.asarray(value))


def as_index(value: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Bring integers to int32, where they fit."""
    array = np.asarray(value)
    limits = np.iinfo(np.int32)
    if array.dtype.kind in "iu" and array.size and limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
        array = array.astype(np.int32, copy=False)
    return read_only(array)
