"""The scan files of a folder, told by their suffixes."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - signatures are read at run time too

from ptycho_adapters.files.formats.fold_slice import is_parameters_of_a_pair
from ptycho_core.errors import Problem, ScanFileError

SCAN_SUFFIXES = (".npz", ".h5", ".hdf5", ".hdf", ".cxi", ".ptyd")
"""Suffixes that scan files have, in lower case."""


def scan_files(folder: Path) -> list[Path]:
    """List the scan files of a folder by name.

    Files with another suffix, hidden files and folders are passed over, and so are the parameters of a PtychoShelves
    pair, which are read along with its patterns.

    Args:
        folder: to look into.

    Raises:
        ScanFileError: there is no such folder, it cannot be listed, or it holds no scan file.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise _no_scans(folder, found=error.strerror or type(error).__name__) from None
    found = [
        path
        for path in files
        if path.suffix.lower() in SCAN_SUFFIXES and path.name[0] != "." and not is_parameters_of_a_pair(path)
    ]
    if not found:
        raise _no_scans(folder, found=", ".join(path.name for path in files[:4]) or "an empty one")
    return found


def _no_scans(folder: Path, *, found: str) -> ScanFileError:
    expected = f"a folder with scan files ({', '.join(SCAN_SUFFIXES)})"
    return ScanFileError(str(folder), [Problem(path="folder", expected=expected, found=found)])
