"""A small valid scan as the arrays of a file, for tests to spoil."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

Arrays = dict[str, npt.NDArray[np.generic]]


def sample_arrays() -> Arrays:
    """A small scan of counts, a bright spot at the centre of every frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-4:4, -4:4]
    rate = 200.0 * np.exp(-(x**2 + y**2) / 6.0) + 0.2
    counts = rng.poisson(rate, (3, 8, 8))
    return {
        "diff3d": counts.astype(np.uint16),
        "xcoords": np.array([10.0, 14.0, 18.0]),
        "ycoords": np.array([20.0, 21.0, 25.5]),
        "probeGuess": np.exp(-(x**2 + y**2) / 9.0).astype(np.complex64),
    }


def save_npz(path: Path, arrays: Arrays) -> Path:
    """Save arrays as they are, pickled ones too, and give the path."""
    np.savez(path, allow_pickle=True, **arrays)
    return path
