"""Raw files of the EMPAD detector: frames of 130 × 128 float32 numbers, whose last two rows are no light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.reading import ArrayFacts
from ptycho_adapters.files.stacks.stack import FrameStack
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

SIDE = 128
_ROWS = 130
_DTYPE = np.dtype("<f4")
FRAME_BYTES = _ROWS * SIDE * _DTYPE.itemsize
_FRAMES_AT_ONCE = 256


def empad_stack(path: Path, raster: tuple[int, int] | None) -> FrameStack:
    """Give the frames of a raw file.

    Args:
        path: the file, of whole frames.
        raster: (rows, columns) of the scan, if they are known.
    """
    facts = ArrayFacts(shape=(path.stat().st_size // FRAME_BYTES, SIDE, SIDE), dtype=_DTYPE)

    def read() -> Iterator[AnyArray]:
        with path.open("rb") as stream:
            while content := stream.read(_FRAMES_AT_ONCE * FRAME_BYTES):
                if len(content) % FRAME_BYTES:
                    problem = Problem(path="file", expected="whole frames", found=f"{len(content)} bytes at its end")
                    raise ScanFileError(str(path), [problem])
                yield np.frombuffer(content, _DTYPE).reshape(-1, _ROWS, SIDE)[:, :SIDE]

    return FrameStack(key="frames", facts=facts, raster=raster, read=read)


def embedded_raster(path: Path) -> tuple[int, int] | None:
    """Give the raster by the places in the scan that the last rows of the first and of the last frame hold.

    None where they hold nothing of the kind, or do not fit the number of frames.
    """
    places = []
    size = path.stat().st_size
    for start in (0, size - FRAME_BYTES):
        with path.open("rb") as stream:
            stream.seek(start + (SIDE + 1) * SIDE * _DTYPE.itemsize)
            row = np.frombuffer(stream.read(SIDE * _DTYPE.itemsize), _DTYPE)
        places.append(row[12:14].astype(np.float64))
    if any(len(place) < 2 or not np.isfinite(place).all() for place in places):
        return None
    sides = places[1] - places[0] + 1
    if not all(1 <= side <= 1 << 20 and side == round(side) for side in sides):
        return None
    raster = int(sides[0]), int(sides[1])
    return raster if raster[0] * raster[1] == size // FRAME_BYTES else None
