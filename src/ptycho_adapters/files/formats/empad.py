"""Scans of the EMPAD detector: a `.raw` file of frames, and an XML file beside it that names it.

The raw file has no mark of its own: it is known by its name and by a size of whole frames. The XML says the raster, the
voltage and, in some versions, the angle of a detector pixel.

It also says the microscope's full field of view, `optics.get_full_scan_field_of_view`, or `full_scan_field_of_view`
times a `scale_factor` that is stated beside it (RosettaSciIO's reader and its pull request 495), and in `scan_size`
which part of it was scanned. Programs disagree on whether the part is in the field of view already, and on what either
means for a scan that is not square; so the step is taken from there for a square scan of the whole field alone, and
else by `--step-m`.
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
from ptycho_adapters.files.stated import raster_positions
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_voltage

if TYPE_CHECKING:
    from ptycho_adapters.files.stacks.stack import FrameStack

TITLE = "EMPAD"

_XML_BYTES = 1 << 20
_MOST_NEIGHBOURS = 64
_RAW_NAME = re.compile(r'<raw_file\s[^>]*filename\s*=\s*"([^"]{1,1024})"')
_NUMBER = r"\s*([-+.\deE]{1,32})\s*"
_SCANS = re.compile(r"<scan_parameters\s[^>]*>(.{0,65536}?)</scan_parameters>", re.DOTALL)
_PART = re.compile(rf"<scan_size>{_NUMBER}</")
_OLD_FIELD = re.compile(rf"<optics\.get_full_scan_field_of_view>\s*\[{_NUMBER},{_NUMBER}\]\s*</")
_FIELD = re.compile(r"<full_scan_field_of_view>(.{0,4096}?)</full_scan_field_of_view>", re.DOTALL)
_ACQUIRED = re.compile(r'<scan_parameters\s[^>]*mode\s*=\s*"acquire"[^>]*>(.{0,65536}?)</scan_parameters>', re.DOTALL)
STEP_FLAGS = "give --step-m Y,X in metres, and --raster ROWS,COLUMNS where it is missing"


@attrs.frozen
class _Pair:
    """The two files of a scan; no text where there is no XML."""

    raw: Path
    text: str

    def number(self, name: str, *, within: str | None = None) -> float | None:
        """Read the first element of a name that is a finite number above 0; None where there is none."""
        found = re.search(rf"<{re.escape(name)}>{_NUMBER}</", self.text if within is None else within)
        return None if found is None else _above_0(found[1])

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

    def step_m(self, raster: tuple[int, int]) -> float | str | None:
        """Give the step of a scan; what is there instead where that is not clear, and None where nothing is."""
        field_m = self._field_m()
        if field_m is None:
            return None
        rows, columns = raster
        if rows != columns:
            return f"{rows} by {columns} places in a field of view of {field_m:g} m, which programs count differently"
        parts = self._parts()
        if parts == {1.0}:
            return field_m / columns
        of_it = "a part that is not stated" if not parts else f"a part of {' or '.join(f'{part:g}' for part in parts)}"
        steps = " or ".join(f"{part * field_m / columns:g}" for part in sorted(parts | {1.0}))
        return f"{of_it} of a field of view of {field_m:g} m, which is a step of {steps} m to different programs"

    def _field_m(self) -> float | None:
        """Read the side of the full field of view; None where there is none, or one that is not square."""
        old, new = _OLD_FIELD.search(self.text), _FIELD.search(self.text)
        if old is not None:
            sides, scale = [_above_0(old[1]), _above_0(old[2])], 1.0
        elif new is not None:
            sides = [self.number("x", within=new[1]), self.number("y", within=new[1])]
            scale = self.number("scale_factor", within=new[1]) or 0.0
        else:
            return None
        return None if sides[0] is None or sides[0] != sides[1] or not scale else sides[0] / scale

    def _parts(self) -> set[float]:
        """Read which part of the field of view was scanned, by the parameters whose raster fits, else by all."""
        n_frames = self.raw.stat().st_size // FRAME_BYTES
        fitting = [
            scan
            for scan in _SCANS.findall(self.text)
            if math.prod(self.number(f"scan_resolution_{axis}", within=scan) or 0.0 for axis in "yx") == n_frames
        ]
        found = [_above_0(text) for scan in fitting or [self.text] for text in _PART.findall(scan)]
        return {part for part in found if part is not None}


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
    voltage_v = None if pair is None else pair.number("source.get_voltage") or pair.number("high_voltage")
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
    _place(parts, None if pair is None or stack.raster is None else pair.step_m(stack.raster), request)
    return parts


def _place(parts: BeamlineParts, step_m: float | str | None, request: ReadRequest) -> None:
    """Put the frames where the XML has them, unless it was said; a step that is not clear is a problem with words."""
    given = request.stated.places_frames
    if isinstance(step_m, float) and parts.raster is not None:
        said = f"a step of {step_m:g} m by the XML's field of view"
        parts.notes["step_evidence"] = f"{said}, and another was given" if given else said
        parts.positions_m = None if given else raster_positions(parts.raster, (step_m, step_m))
    elif not given:
        found = "none" if step_m is None else f"none that is certain: {step_m}"
        parts.problems.append(Problem(path="positions", expected="the step of the scan", found=found, fix=STEP_FLAGS))
        parts.notes |= {} if step_m is None else {"step_evidence": found}


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


def _above_0(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 < value < math.inf else None


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
