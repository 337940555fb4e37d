"""Folders with one picture a frame, as detectors fill them: TIFF, EDF or CBF, in the order of the numbers in names."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.images.detector_pictures import detector_pictures
from ptycho_adapters.files.reading import ArrayFacts
from ptycho_adapters.files.stacks.stack import FrameStack
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUFFIXES = (".tif", ".tiff", ".edf", ".cbf")
_DIGITS = re.compile(r"(\d+)")
_BYTES_AT_ONCE = 1 << 24
_LARGEST_SIDE = 1 << 14
_FEWEST = 2


def frame_names(names: Iterable[str]) -> list[str]:
    """Pick the frames among the files of a folder: the pictures whose names differ in numbers alone, most of all.

    Args:
        names: of all files; hidden ones and those that are no pictures are passed over.

    Returns:
        Their names by rising numbers; nothing where fewer than two are alike.
    """
    pictures = [name for name in names if name[:1] != "." and name.lower().endswith(SUFFIXES)]
    kinds = Counter(_DIGITS.sub("#", name) for name in pictures)
    if not kinds:
        return []
    kind, number = max(kinds.items(), key=lambda item: (item[1], item[0]))
    if number < _FEWEST or "#" not in kind:
        return []
    return sorted((name for name in pictures if _DIGITS.sub("#", name) == kind), key=_numbers)


def _numbers(name: str) -> tuple[list[int], str]:
    return [int(digits) for digits in _DIGITS.findall(name)], name


def folder_stack(folder: Path, names: list[str]) -> FrameStack:
    """Give pictures as a stack; the first one tells size and number format of all.

    Args:
        folder: where they are.
        names: of the pictures in order, one at least.

    Raises:
        ScanFileError: the first one cannot be read.
    """
    first = _frame(folder / names[0])
    facts = ArrayFacts(shape=(len(names), *first.shape), dtype=first.dtype)
    at_once = max(1, _BYTES_AT_ONCE // max(first.nbytes, 1))

    def read() -> Iterator[AnyArray]:
        for start in range(0, len(names), at_once):
            frames = [_frame(folder / name) for name in names[start : start + at_once]]
            for name, frame in zip(names[start:], frames, strict=False):
                if frame.shape != first.shape or frame.dtype != first.dtype:
                    problem = Problem(path=name, expected=describe(first), found=describe(frame))
                    raise ScanFileError(str(folder), [problem])
            yield np.stack(frames)

    return FrameStack(key=f"{names[0]} to {names[-1]}", facts=facts, read=read)


def _frame(path: Path) -> AnyArray:
    try:
        array = detector_pictures(path, path.name)
    except OSError as error:
        problem = Problem(path=path.name, expected="a readable file", found=error.strerror or type(error).__name__)
        raise ScanFileError(str(path.parent), [problem]) from None
    except ScanFileError as error:
        raise ScanFileError(str(path.parent), error.problems) from None
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not 0 < max(array.shape) <= _LARGEST_SIDE:
        problem = Problem(path=path.name, expected="one picture (H, W) of real numbers", found=describe(array))
        raise ScanFileError(str(path.parent), [problem])
    return array
