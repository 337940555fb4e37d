"""Pictures as detectors write them: TIFF, and EDF and CBF through fabio, which is an extra."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEAD_BYTES = 1 << 14
_MOST_PAGES = 4096
_SMALL_BYTES = 1 << 26
# Bytes out per byte in that no compression in TIFF exceeds by much.
_LARGEST_RATIO = 1500
# What EDF and CBF say about the sides of a picture; fabio makes room for them before it looks at the data.
_SIDES = re.compile(
    rb"(?:X-Binary-Size-Fastest-Dimension:|X-Binary-Size-Second-Dimension:|\bDim_[123]\s*=)\s*(-?\d+)", re.IGNORECASE
)
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
    size, declared = path.stat().st_size, 1
    for side in _SIDES.findall(head):
        declared *= max(int(side[:12]), 1)
    if declared > size:
        raise _refused(path, what, f"{declared} pixels at least", f"a file of {size} bytes")
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


def _refused(path: Path, what: str, expected: str, found: str) -> ScanFileError:
    return ScanFileError(str(path), [Problem(path=what, expected=expected, found=found)])


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
