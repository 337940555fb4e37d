"""Scans of the EMPAD detector: a `.raw` file of frames, and an XML file beside it that names it.

The raw file has no mark of its own: it is known by its name and by a size of whole frames. The XML says the raster, the
voltage and, in newer versions, the angle of a detector pixel. What it says about the field of view is counted in one
way by one version and in another by the next, so the step is not taken from there: `--step-m` gives it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.files.formats.beamline_parts import BeamlineParts, Geometry
from ptycho_adapters.files.formats.measured import MeasuredFormat
from ptycho_adapters.files.reading import Container, Evidence, ReadRequest, ScanFormat
from ptycho_adapters.files.stacks.empad import FRAME_BYTES, SIDE, embedded_raster, empad_stack
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_voltage

if TYPE_CHECKING:
    from ptycho_adapters.files.stacks.stack import FrameStack

TITLE = "EMPAD"

_XML_BYTES = 1 << 20
_MOST_NEIGHBOURS = 64
_RAW_NAME = re.compile(r'<raw_file\s[^>]*filename\s*=\s*"([^"]{1,1024})"')
_ACQUIRED = re.compile(r'<scan_parameters\s[^>]*mode\s*=\s*"acquire"[^>]*>(.{0,65536}?)</scan_parameters>', re.DOTALL)
STEP_FLAGS = "give --step-m Y,X in metres, and --raster ROWS,COLUMNS where it is missing"


@attrs.frozen
class _Pair:
    """The two files of a scan; no text where there is no XML."""

    raw: Path
    text: str

    def number(self, name: str, *, within: str | None = None) -> float | None:
        """Read the first element of a name that is a finite number above 0; None where there is none."""
        found = re.search(rf"<{re.escape(name)}>\s*([-+.\deE]{{1,32}})\s*</", self.text if within is None else within)
        try:
            value = 0.0 if found is None else float(found[1])
        except ValueError:
            return None
        return value if 0.0 < value < math.inf else None

    def raster(self) -> tuple[int, int] | None:
        """Give (rows, columns), as far as they fit the number of frames."""
        acquired = _ACQUIRED.search(self.text)
        inside = "" if acquired is None else acquired[1]
        stated = (
            (self.number("scan_resolution_y", within=inside), self.number("scan_resolution_x", within=inside)),
            (self.number("pix_y"), self.number("pix_x")),
        )
        n_frames = self.raw.stat().st_size // FRAME_BYTES
        for rows, columns in stated:
            if rows is not None and columns is not None and rows * columns == n_frames:
                return int(rows), int(columns)
        return embedded_raster(self.raw)


def is_empad(evidence: Evidence) -> bool:
    """Tell either file of the pair: the raw one by name and size, the XML by the raw file that it names."""
    return evidence.container is Container.OTHER and _pair(evidence.path, evidence.head) is not None


def _empad_stack(evidence: Evidence) -> FrameStack | None:
    pair = _pair(evidence.path, evidence.head)
    return None if pair is None else empad_stack(pair.raw, pair.raster())


def read_empad_parts(path: Path, stack: FrameStack, request: ReadRequest) -> BeamlineParts:
    """Read what the XML says; what is missing is among the problems."""
    parts = BeamlineParts(key_of={"positions_px": "positions", "geometry": "xml"}, raster=stack.raster)
    with path.open("rb") as stream:
        pair = _pair(path, stream.read(len(b"<?xml ve")))
    voltage_v = None if pair is None else pair.number("source.get_voltage")
    angle_rad = None if pair is None else pair.number("calibrated_diffraction_angle")
    try:
        wavelength_m = None if voltage_v is None else wavelength_from_voltage(voltage_v=voltage_v)
    except ScanError as error:
        parts.problems.extend(error.problems)
        wavelength_m = None
    known_m = request.stated.wavelength_m or wavelength_m
    parts.geometry = Geometry(wavelength_m=wavelength_m)
    if angle_rad is not None and known_m is not None and angle_rad < 1.0:
        parts.geometry.pixel_m = object_pixel_m(
            wavelength_m=known_m, distance_m=1.0, detector_pixel_m=angle_rad, size_px=SIDE
        )
    if not request.stated.places_frames:
        problem = Problem(path="positions", expected="the step of the scan", found="none", fix=STEP_FLAGS)
        parts.problems.append(problem)
    return parts


EMPAD = MeasuredFormat(
    format=ScanFormat.EMPAD, title=TITLE, recognises=is_empad, stack=_empad_stack, parts=read_empad_parts
)


def _pair(path: Path, head: bytes) -> _Pair | None:
    """Find both files by either; None where the path is neither of them."""
    if head.lstrip().startswith(b"<"):
        text = _text(path)
        named = _RAW_NAME.search(text)
        raw = None if named is None else path.with_name(re.split(r"[/\\]", named[1])[-1] or path.name)
        return None if raw is None or not _is_raw(raw) else _Pair(raw, text)
    return _Pair(path, _text_beside(path)) if _is_raw(path) else None


def _is_raw(path: Path) -> bool:
    if path.suffix.lower() != ".raw" or not path.is_file():
        return False
    size = path.stat().st_size
    return size > 0 and size % FRAME_BYTES == 0


def _text_beside(raw: Path) -> str:
    """Give the text of the XML file that names a raw one; nothing where there is none."""
    near = sorted(raw.parent.glob("*.xml"), key=lambda path: (path.stem != raw.stem, path.name))
    for path in near[:_MOST_NEIGHBOURS]:
        text = _text(path)
        named = _RAW_NAME.search(text)
        if named is not None and re.split(r"[/\\]", named[1])[-1] == raw.name:
            return text
    return ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_XML_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
