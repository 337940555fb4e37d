"""Pictures as detectors write them: TIFF, and EDF and CBF through fabio, which is an extra."""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEAD_BYTES = 1 << 16
_MOST_PAGES = 4096
_SMALL_BYTES = 1 << 26
# Bytes out per byte in that no compression in TIFF exceeds by much.
_LARGEST_RATIO = 1500
# A picture in CBF: a heading in words, this mark, and at least a byte for each pixel. fabio looks for the mark for ever
# where it is missing, and makes room for the sides before it looks at the data.
_CBF_START, _CBF_MARK = b"###CBF", b"\x0c\x1a\x04\xd5"
_CBF_SECTION, _CBF_KIND = b"--CIF-BINARY-FORMAT-SECTION--", b"x-CBF_BYTE_OFFSET"
_CBF_NUMBER = rb"X-Binary-%s:\s*(\d{1,12})\s"
_EDF_KIND = re.compile(rb"\bDataType\s*=\s*(\w{1,32})\s*;", re.IGNORECASE)
_EDF_BYTES = MappingProxyType({b"byte": 1, b"short": 2, b"64": 8, b"double": 8, b"int": 4, b"long": 4, b"float": 4})
_EDF_SIDE = re.compile(rb"\bDim_[1-3]\s*=\s*(\d{1,12})\s*;", re.IGNORECASE)
INSTALL = "EDF and CBF files are read with fabio: pip install 'ptycho-core[detectors]'"


def detector_pictures(path: Path, what: str) -> AnyArray:
    """Read the pictures of a file.

    Args:
        path: TIFF; with a fabio that is installed, EDF and CBF too.
        what: its name, for messages.

    Returns:
        (H, W), or (n, H, W) of several.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it holds no picture, or fabio is missing.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return _tiff(path, what) if head.startswith(TIFF_STARTS) else _by_fabio(path, what, head)


def _tiff(path: Path, what: str) -> AnyArray:
    import tifffile  # noqa: PLC0415 - only who has pictures needs it

    try:
        with tifffile.TiffFile(path) as file:
            pages = [file.pages[number] for number in range(min(len(file.pages), _MOST_PAGES))]
            declared = sum(page.nbytes for page in pages)
            if declared > max(_SMALL_BYTES, _LARGEST_RATIO * path.stat().st_size):
                raise _refused(path, what, f"{declared} bytes of pictures at most", f"{path.stat().st_size}")
            arrays = [np.asarray(page.asarray()) for page in pages]
        return arrays[0] if len(arrays) == 1 else np.stack(arrays)
    except ScanFileError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever tifffile stumbles over, the file is at fault
        raise _refused(path, what, "an undamaged TIFF picture", _words(error)) from None


def _by_fabio(path: Path, what: str, head: bytes) -> AnyArray:
    found = _damage(path, head)
    if found:
        raise _refused(path, what, "a whole picture", found)
    try:
        import fabio  # noqa: PLC0415 - an extra
    except ImportError:
        problem = Problem(path=what, expected=".npy, TIFF, NPZ or HDF5", found="another file", fix=INSTALL)
        raise ScanFileError(str(path), [problem]) from None
    try:
        with fabio.open(str(path)) as image:
            frames = [image.data] if image.nframes == 1 else [image.getframe(n).data for n in range(image.nframes)]
        return np.asarray(frames[0] if len(frames) == 1 else np.stack(frames))
    except Exception as error:
        raise _refused(path, what, "a picture that fabio reads", _words(error)) from error


def _damage(path: Path, head: bytes) -> str:
    """Say what keeps a CBF or an EDF from being given to fabio; nothing for a whole one and for any other file."""
    suffix, size = path.suffix.lower(), path.stat().st_size
    if suffix == ".cbf" or head.startswith(_CBF_START):
        return _cbf_damage(head, size)
    if suffix == ".edf" or head.lstrip().startswith(b"{"):
        return _edf_damage(head, size)
    return ""


def _cbf_damage(head: bytes, size: int) -> str:
    section, mark = head.find(_CBF_SECTION), head.find(_CBF_MARK)
    if not head.startswith(_CBF_START) or not 0 < section < mark:
        return "a CBF without its section of numbers"
    heading = head[section:mark]
    names = (b"Size", b"Size-Fastest-Dimension", b"Size-Second-Dimension")
    found = [re.search(_CBF_NUMBER % name, heading) for name in names]
    stored, fast, slow = (0 if one is None else int(one[1]) for one in found)
    if _CBF_KIND not in heading or not 0 < fast * slow <= stored:
        return f"{fast} by {slow} pixels in {stored} bytes of another kind than {_CBF_KIND.decode()}"
    there = size - mark - len(_CBF_MARK)
    return "" if stored <= there else f"{there} of {stored} bytes"


def _edf_damage(head: bytes, size: int) -> str:
    end = head.find(b"}")
    heading = head[: max(end, 0)]
    sides, kind = _EDF_SIDE.findall(heading), _EDF_KIND.search(heading)
    item = 1 if kind is None else next((n for word, n in _EDF_BYTES.items() if word in kind[1].lower()), 1)
    declared = item * math.prod(map(int, sides))
    if not heading.lstrip().startswith(b"{") or not sides or not declared:
        return "an EDF without its heading"
    there = size - end - len(b"}\n")
    return "" if declared <= there or b"Compression" in heading else f"{there} of {declared} bytes"


def _refused(path: Path, what: str, expected: str, found: str) -> ScanFileError:
    return ScanFileError(str(path), [Problem(path=what, expected=expected, found=found)])


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
