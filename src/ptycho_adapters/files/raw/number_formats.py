"""What becomes of frames by the kind of their numbers: real ones are taken, true and false counted, others refused."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.reading import ArrayFacts
    from ptycho_adapters.files.stacks.stack import FrameStack
    from ptycho_core.any_array import AnyArray

REAL, TRUTH, COMPLEX, TEXT = "iuf", "b", "c", "USO"  # kinds of NumPy; HDF5 has texts of any length as objects
_OUT = "intensities.npy"


class NumberFormatError(ScanFileError):
    """Frames that are there and are not made of real numbers."""


def in_words(dtype: np.dtype[np.generic]) -> str:
    """Name a number format, and what it is taken for where that is another."""
    return f"{dtype}, taken for counts of 0 and 1" if dtype.kind == TRUTH else str(dtype)


def taken_for(dtype: np.dtype[np.generic]) -> list[str]:
    """Say what a number format was taken for; nothing where it is what it is."""
    return ["true and false taken for counts of 1 and 0"] if dtype.kind == TRUTH else []


def with_counts(path: Path, stack: FrameStack) -> FrameStack:
    """Give a stack whose frames are real numbers; true and false become uint8, while the facts keep what the file has.

    Args:
        path: its file, for messages.
        stack: the frames.

    Raises:
        NumberFormatError: they are complex, text, or no numbers at all.
    """
    facts = stack.facts
    if facts.dtype.kind in REAL:
        return stack
    if facts.dtype.kind != TRUTH:
        raise NumberFormatError(str(path), [_refused(path, stack.key, facts)])
    read, at = stack.read, stack.at
    return attrs.evolve(
        stack, read=lambda: map(_counted, read()), at=None if at is None else lambda numbers: _counted(at(numbers))
    )


def _counted(frames: AnyArray) -> AnyArray:
    return frames.astype(np.uint8)


def _refused(path: Path, key: str, facts: ArrayFacts) -> Problem:
    what, fix = "numbers of another kind", ""
    if facts.dtype.kind == COMPLEX:
        what = "complex numbers"
        fix = f"of waves at the detector take the intensities, then ptycho prepare {_OUT} OUT.npz: {_recipe(path, key)}"
    elif facts.dtype.kind in TEXT:
        what, fix = "text", "save the frames as numbers: digits may be cut, and text is no measurement"
    return Problem(
        path=key or "frames", expected="real numbers", found=f"{what}, {facts.shape} of {facts.dtype}", fix=fix
    )


def _recipe(path: Path, key: str) -> str:
    """Give the line that squares magnitudes, to be typed as it stands."""
    file, name = json.dumps(str(path)), json.dumps(key)
    if path.suffix == ".npy":
        modules, waves = "numpy as np", f"np.load({file})"
    elif path.suffix == ".npz":
        modules, waves = "numpy as np", f"np.load({file})[{name}]"
    else:
        modules, waves = "h5py, numpy as np", f"h5py.File({file})[{name}][()]"
    square = f"np.save({json.dumps(_OUT)}, abs({waves}) ** 2)"
    return shlex.join(["python", "-c", f"import {modules}; {square}"])
