"""Folders of TIFF, EDF or CBF frames as scans: positions, and what no header says, have to be given.

Headers of EDF as ESRF writes them (`PSize_1`, `SampleDistance`, `WaveLength`, all in metres) and of CBF as DECTRIS
writes them (`Pixel_size`, `Detector_distance`, `Wavelength` in Å) are read from the first frame.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ptycho_adapters.files.formats.beamline_parts import POSITIONS_FLAGS, BeamlineParts, Geometry
from ptycho_adapters.files.formats.measured import MeasuredFormat
from ptycho_adapters.files.reading import Container, Evidence, ReadRequest, ScanFormat
from ptycho_adapters.files.stacks.folder import folder_stack, frame_names
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.stacks.stack import FrameStack

TITLE = "folder of frames"

_HEAD_BYTES = 1 << 14
_NUMBER = rb"\s*[=:]?\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)"
# (what EDF calls it, what CBF calls it, what a number of CBF without a unit of its own is multiplied by)
_PIXEL, _DISTANCE, _WAVELENGTH = (
    (rb"\bPSize_1", rb"# Pixel_size", 1.0),
    (rb"\bSampleDistance", rb"# Detector_distance", 1.0),
    (rb"\bWaveLength", rb"# Wavelength", 1e-10),
)


def is_frame_folder(evidence: Evidence) -> bool:
    """Tell a folder of frames by the names of its files."""
    return evidence.container is Container.FOLDER and bool(frame_names(evidence.arrays))


def frame_folder_stack(evidence: Evidence) -> FrameStack | None:
    """Find the frames; None where there are none.

    Raises:
        ScanFileError: the first one cannot be read.
    """
    names = frame_names(evidence.arrays)
    return folder_stack(evidence.path, names) if names else None


def read_frame_folder_parts(path: Path, stack: FrameStack, request: ReadRequest) -> BeamlineParts:
    """Read what headers say; positions are among the problems unless they were given."""
    parts = BeamlineParts(key_of={"geometry": "header", "positions_px": "positions"})
    names = frame_names(child.name for child in path.iterdir() if child.is_file())
    with (path / names[0]).open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    pixel = _stated(head, _PIXEL)
    parts.geometry = Geometry(
        wavelength_m=_stated(head, _WAVELENGTH),
        distance_m=_stated(head, _DISTANCE),
        detector_pixel_m=None if pixel is None else (pixel, pixel),
    )
    others = sorted(child.name for child in path.iterdir() if child.is_file() and child.name not in set(names))
    if others:
        parts.notes["ignored_keys"] = ", ".join(others[:8]) + (", …" if len(others) > 8 else "")
    if not request.stated.places_frames:
        expected = f"{stack.facts.shape[0]} positions, one a frame"
        problem = Problem(path="positions", expected=expected, found="none in a folder of frames", fix=POSITIONS_FLAGS)
        parts.problems.append(problem)
    return parts


FRAME_FOLDER = MeasuredFormat(
    format=ScanFormat.FRAMES,
    title=TITLE,
    recognises=is_frame_folder,
    stack=frame_folder_stack,
    parts=read_frame_folder_parts,
)


def _stated(head: bytes, names: tuple[bytes, bytes, float]) -> float | None:
    """Read a length of a header in metres; None where it says none, or 0."""
    edf, cbf, factor = names
    found = re.search(edf + _NUMBER, head)
    if found is not None:
        factor = 1.0
    else:
        found = re.search(cbf + _NUMBER, head)
    try:
        value = 0.0 if found is None else factor * float(found[1])
    except ValueError:
        return None
    return value if 0.0 < value < 1e6 else None
