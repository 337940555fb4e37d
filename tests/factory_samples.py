"""Small scan files and model folders for tests of the factories."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def write_scan_file(path: Path, *, size: int = 64, count: int = 100, **extra: object) -> Path:
    """Write a scan of `count` empty patterns; `extra` adds arrays, and None leaves one out."""
    arrays = {
        "diffraction": np.zeros((count, size, size), np.float32),
        "probeGuess": np.ones((size, size), np.complex64),
        "xcoords": np.linspace(0, 1, count),
        "ycoords": np.linspace(0, 1, count),
        **extra,
    }
    with zipfile.ZipFile(path, "w") as stored:
        for key, value in arrays.items():
            if value is not None:
                with stored.open(f"{key}.npy", "w") as stream:
                    np.lib.format.write_array(stream, np.asanyarray(value))
    return path


def empty_model(folder: Path) -> Path:
    """Make a model folder with the empty archive of a model that is still to come."""
    folder.mkdir()
    (folder / "wts.h5.zip").touch()
    return folder
