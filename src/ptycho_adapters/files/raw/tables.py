"""Arrays beside the frames: masks, dark and flat frames as pictures, positions as columns."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.hdf5.collect import collecting
from ptycho_adapters.files.images.detector_pictures import detector_pictures
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_member
from ptycho_adapters.files.reading import Container
from ptycho_core.any_array import describe
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ptycho_adapters.files.reading import Evidence
    from ptycho_core.any_array import AnyArray

Real = npt.NDArray[np.float64]

_NUMPY_START = b"\x93NUMPY"
_LARGEST_TABLE = 1 << 28
_SEPARATORS = re.compile(r"[,;\t ]+")


def read_picture(path: Path, what: str, shape: tuple[int, int]) -> AnyArray:
    """Read a mask, a dark frame or a flat field: (H, W), or (n, H, W) of several.

    Args:
        path: .npy, TIFF, NPZ or HDF5; with a fabio that is installed, EDF and CBF too. Of several arrays the first
            one whose frames have the shape is taken.
        what: its name, for messages.
        shape: (H, W) of the frames that it belongs to.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it holds no such picture.
    """
    array = _picture(path, gather_evidence(path), what, shape)
    if array.ndim not in (2, 3) or array.shape[-2:] != shape or array.dtype.kind not in "biuf":
        expected = f"real numbers of shape {shape}, as the frames"
        raise ScanFileError(str(path), [Problem(path=what, expected=expected, found=describe(array))])
    return array


def _picture(path: Path, evidence: Evidence, what: str, shape: tuple[int, int]) -> AnyArray:
    if evidence.container in (Container.HDF5, Container.ZIP):
        fits = [
            key for key, facts in evidence.arrays.items() if facts.shape[-2:] == shape and len(facts.shape) in (2, 3)
        ]
        if not fits:
            found = ", ".join(f"{key} {facts.shape}" for key, facts in list(evidence.arrays.items())[:12]) or "none"
            problem = Problem(path=what, expected=f"an array of {shape}, as the frames", found=found)
            raise ScanFileError(str(path), [*evidence.problems, problem])
        return _array(path, evidence, fits[0])
    if evidence.head.startswith(_NUMPY_START):
        return _npy(path)
    return detector_pictures(path, what)


def _npy(path: Path) -> AnyArray:
    try:
        array: AnyArray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        problem = Problem(path="file", expected="an undamaged .npy array", found=str(error))
        raise ScanFileError(str(path), [problem]) from None
    return array


def _array(path: Path, evidence: Evidence, key: str) -> AnyArray:
    """Read one array of a container whole."""
    if evidence.container is Container.HDF5:
        with collecting(path) as file:
            array = file.array(key, "an array")
            problems = file.problems
        if array is None:
            raise ScanFileError(str(path), problems)
        return array
    archive = open_archive(path)
    if isinstance(archive, Problem):
        raise ScanFileError(str(path), [archive])
    with archive:
        infos = member_keys(archive)
        found = infos if isinstance(infos, Problem) else read_member(archive, infos[key])
    if isinstance(found, Problem):
        raise ScanFileError(str(path), [found])
    if not isinstance(found, np.ndarray):
        raise ScanFileError(str(path), [Problem(path=key, expected="an array", found="none")])
    return found


def read_columns(path: Path, columns: Sequence[str]) -> Real:
    """Read columns of numbers.

    Args:
        path: a text with one position a line (commas, semicolons, blanks or tabs; a heading names the columns, `#`
            begins a remark), or HDF5 or NPZ with an array for each column.
        columns: their names, or their numbers from 0.

    Returns:
        (n, columns) float64.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: a column is not there or holds something else than numbers.
    """
    evidence = gather_evidence(path)
    if evidence.container in (Container.HDF5, Container.ZIP):
        return _joined(path, evidence, columns)
    return _of_text(path, columns)


def _joined(path: Path, evidence: Evidence, columns: Sequence[str]) -> Real:
    names = [name.strip("/") for name in columns]
    missing = [name for name in names if name not in evidence.arrays]
    if missing:
        listed = ", ".join(sorted(evidence.arrays)[:12]) or "nothing"
        problems = [Problem(path=name, expected="a column of positions", found=f"only {listed}") for name in missing]
        raise ScanFileError(str(path), problems)
    arrays = [_array(path, evidence, name) for name in names]
    wrong = [
        name
        for name, array in zip(names, arrays, strict=True)
        if array.dtype.kind not in "iuf" or array.size != arrays[0].size
    ]
    if wrong:
        expected = f"{arrays[0].size} real numbers"
        problems = [Problem(path=name, expected=expected, found="another array") for name in wrong]
        raise ScanFileError(str(path), problems)
    return np.stack([array.astype(np.float64).ravel() for array in arrays], axis=1)


def _of_text(path: Path, columns: Sequence[str]) -> Real:
    if path.stat().st_size > _LARGEST_TABLE:
        problem = Problem(path="file", expected="a table of positions", found=f"{path.stat().st_size} bytes")
        raise ScanFileError(str(path), [problem])
    rows = _rows(path)
    heading = rows.pop(0) if rows and not _is_number(rows[0][0]) else []
    places = [_place(name, heading, rows, path) for name in columns]
    try:
        return np.array([[float(row[place]) for place in places] for row in rows], dtype=np.float64).reshape(
            -1, len(places)
        )
    except (ValueError, IndexError) as error:
        problem = Problem(path="columns", expected="a number in every line", found=str(error))
        raise ScanFileError(str(path), [problem]) from None


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        problem = Problem(path="file", expected="a table of numbers in UTF-8, HDF5 or NPZ", found="another file")
        raise ScanFileError(str(path), [problem]) from None
    lines = [
        line.lstrip("#").strip() if number == 0 else line.split("#")[0].strip()
        for number, line in enumerate(text.splitlines())
    ]
    comma = any("," in line for line in lines)
    if comma:
        return [[cell.strip() for cell in row] for row in csv.reader(line for line in lines if line)]
    return [_SEPARATORS.split(line) for line in lines if line]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(name: str, heading: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> int:
    width = len(rows[0]) if rows else 0
    if name in heading:
        return list(heading).index(name)
    if name.isdecimal() and int(name) < width:
        return int(name)
    found = f"columns {', '.join(heading)}" if heading else f"{width} columns without a heading"
    problem = Problem(
        path="columns",
        expected=f"a column {name}",
        found=found,
        fix="name them with --columns X,Y, or by number from 0",
    )
    raise ScanFileError(str(path), [problem])
