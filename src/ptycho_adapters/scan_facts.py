"""What a scan file says about itself, read from headers alone: no pattern is loaded, no pickle is executed.

An NPZ file may say how many photons it was made for; of every other format the facts are those of its patterns.
"""

from __future__ import annotations

import json
import logging
import math
import pickletools
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib import format as npy

from ptycho_core.callers import warn_caller
from ptycho_core.config.payload import ScanFacts
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

Shape = tuple[int, ...]

_PATTERN_KEYS = ("diffraction", "diff3d")
# What `zipfile` and NumPy's header reader raise for damaged, encrypted and foreign files.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
)
_PROBE = "probeGuess.npy"
_ZIP_START = b"PK\x03\x04"
_LOG = logging.getLogger(__name__)
# Metadata are a page of text; anything larger is not what it claims to be.
_MOST_METADATA = 1 << 20


def read_scan_facts(path: Path) -> ScanFacts:
    """Return the facts of a scan file of any format.

    The side of a pattern is that of an NPZ file's probe; where there is none, that of the patterns.

    Raises:
        ScanFileError: the file cannot be read as a scan.
    """
    if not _is_npz(path):
        return _facts_of_patterns(path)
    headers = _headers(path)
    if _PROBE not in headers and any(f"{key}.npy" in headers for key in _PATTERN_KEYS):
        return _facts_of_patterns(path)
    metadata = _metadata(path) if "_metadata.npy" in headers else {}
    return ScanFacts(
        path=path,
        N=_probe_side(path, headers),
        n_patterns=_count(headers),
        nphotons=_nphotons(metadata),
    )


def read_probe_size(path: Path) -> int:
    """Return the side [px] of a scan file's probe: an NPZ file's own, else that of the patterns, which it has to have.

    Raises:
        ScanFileError: the file cannot be read as a scan, or as an NPZ scan with a square probe.
    """
    return _probe_side(path, _headers(path)) if _is_npz(path) else _facts_of_patterns(path).N


def _is_npz(path: Path) -> bool:
    """Tell by the first bytes; what cannot be read is left to the reader of NPZ files to name."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_ZIP_START)) in (_ZIP_START, b"")
    except OSError:
        return not path.is_dir()


def _facts_of_patterns(path: Path) -> ScanFacts:
    from ptycho_adapters.files import read_file_facts  # noqa: PLC0415 - the formats load for those who have them

    facts = read_file_facts(path)
    if facts.frame[0] != facts.frame[1] or min(facts.frame) < 1:
        rows, columns = facts.frame
        expected, found = "square diffraction patterns", f"{rows}×{columns}"
        fix = f"crop or pad them: ptycho prepare IN OUT.npz --size {max(min(facts.frame), 1)}"
        problem = Problem(path="patterns", expected=expected, found=found, fix=fix)
        raise ScanFileError(str(path), [problem])
    return ScanFacts(path=path, N=facts.frame[0], n_patterns=facts.n_patterns)


def _failed(path: Path, *, key: str, expected: str, found: str) -> ScanFileError:
    return ScanFileError(str(path), [Problem(path=key, expected=expected, found=found)])


def _headers(path: Path) -> dict[str, Shape]:
    """Return the shape of every array in an NPZ file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _shape(archive, name) for name in archive.namelist() if name.endswith(".npy")}
    except _UNREADABLE as error:
        raise _failed(path, key="file", expected="a readable NPZ scan", found=str(error)) from error


def _shape(archive: zipfile.ZipFile, name: str) -> Shape:
    with archive.open(name) as stream:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
    shape: Shape = header[0]
    return shape


def _probe_side(path: Path, headers: dict[str, Shape]) -> int:
    shape = headers.get(_PROBE)
    if shape is None:
        raise _failed(path, key="probeGuess", expected="a probe", found=f"only {_listed(headers)}")
    # One mode may come with a trailing axis of length one; modes otherwise come first.
    frame = shape[:2] if len(shape) == 3 and shape[2] == 1 else shape[-2:]
    if len(shape) not in {2, 3} or frame[0] != frame[1] or min(shape) < 1:
        raise _failed(path, key="probeGuess", expected="shape (N, N) or (modes, N, N)", found=str(shape))
    return frame[0]


def _listed(headers: dict[str, Shape]) -> str:
    return ", ".join(sorted(name.removesuffix(".npy") for name in headers)) or "no arrays"


def _count(headers: dict[str, Shape]) -> int | None:
    positions = headers.get("xcoords.npy", ())
    if len(positions) == 1:
        return positions[0]
    patterns = next((headers[f"{key}.npy"] for key in _PATTERN_KEYS if f"{key}.npy" in headers), ())
    return patterns[0] if len(patterns) == 3 else None


def _metadata(path: Path) -> dict[str, object]:
    """Return the JSON text that a file carries about itself; empty, with a warning, when it cannot be read."""
    found: object = None
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("_metadata.npy").file_size <= _MOST_METADATA:
                found = _first_object(_texts(archive))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise _failed(path, key="_metadata", expected="text", found=str(error)) from error
    except ValueError:
        _LOG.debug("%s: _metadata cannot be decoded", path, exc_info=True)
    if isinstance(found, dict):
        return found
    warn_caller(f"{path}: _metadata is not a JSON object and is not used", UserWarning)
    return {}


def _texts(archive: zipfile.ZipFile) -> list[str]:
    """Return the texts in the metadata array. A pickled array is searched for its texts, never executed."""
    with archive.open("_metadata.npy") as stream:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
        dtype: np.dtype[np.generic] = header[2]
        body = stream.read()
    if dtype.hasobject:
        return [argument for _, argument, _ in pickletools.genops(body) if isinstance(argument, str)]
    if dtype.kind == "U":
        return [str(item) for item in np.frombuffer(body, dtype=dtype).ravel()]
    if dtype.kind == "S":
        return [bytes(item).decode() for item in np.frombuffer(body, dtype=dtype).ravel()]
    return [body.decode()] if dtype == np.uint8 else []


def _first_object(texts: list[str]) -> object:
    for text in texts:
        if text.lstrip().startswith("{"):
            try:
                found: object = json.loads(text)
            except (ValueError, RecursionError):
                continue
            return found
    return None


def _nphotons(metadata: dict[str, object]) -> float | None:
    physics = metadata.get("physics_parameters")
    value = physics.get("nphotons") if isinstance(physics, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None
