"""Looking at a file without reading its numbers: what it is made of and which arrays it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.hdf5.byte_search import hdf5_start
from ptycho_adapters.files.hdf5.nodes import list_arrays, open_h5
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_header
from ptycho_adapters.files.reading import ArrayFacts, Container, Evidence
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

_HEAD_BYTES = 8
_ZIP_START = b"PK\x03\x04"


def gather_evidence(path: Path) -> Evidence:
    """Look at a file or folder.

    Args:
        path: the file or folder.

    Returns:
        What it shows; a damaged file gives what can be seen of it, with the problems.

    Raises:
        FileNotFoundError: when there is no such file.
        ScanFileError: when it cannot be opened at all.
    """
    if path.is_dir():
        names = {child.name: _NO_ARRAY for child in path.iterdir() if child.is_file()}
        return Evidence(path=path, container=Container.FOLDER, arrays=names)
    head = _read_head(path)
    if _is_hdf5(path):
        return _hdf5_evidence(path, head)
    if head.startswith(_ZIP_START):
        return _npz_evidence(path, head)
    return Evidence(path=path, container=Container.OTHER, head=head)


def _is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its first bytes, which may come behind a user block."""
    with path.open("rb") as stream:
        return hdf5_start(stream) is not None


_NO_ARRAY = ArrayFacts(shape=(), dtype=np.dtype("S1"))


def _hdf5_evidence(path: Path, head: bytes) -> Evidence:
    file = open_h5(path)
    if isinstance(file, Problem):
        return Evidence(path=path, container=Container.HDF5, head=head, problems=(file,))
    with file:
        arrays, problems = list_arrays(file)
    return Evidence(path=path, container=Container.HDF5, head=head, arrays=arrays, problems=tuple(problems))


def _npz_evidence(path: Path, head: bytes) -> Evidence:
    archive = open_archive(path)
    if isinstance(archive, Problem):
        return Evidence(path=path, container=Container.ZIP, head=head, problems=(archive,))
    arrays: dict[str, ArrayFacts] = {}
    problems: list[Problem] = []
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            return Evidence(path=path, container=Container.ZIP, head=head, problems=(infos,))
        for key, info in infos.items():
            header = read_header(archive, info)
            if isinstance(header, Problem):
                problems.append(header)
            else:
                arrays[key] = ArrayFacts(shape=header.shape, dtype=header.dtype)
    return Evidence(path=path, container=Container.ZIP, head=head, arrays=arrays, problems=tuple(problems))


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        msg = f"Scan file not found: {path}"
        raise FileNotFoundError(msg) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ScanFileError(str(path), [Problem(path="file", expected="a readable file", found=reason)]) from None
