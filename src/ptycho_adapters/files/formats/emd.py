"""4-D scans of electrons in EMD files: py4DSTEM's and emdfile's of every version, and those of the Berkeley format.

A dataset (rows, columns, H, W) has a vector for each axis beside it, `dim0` to `dim3` or, in older versions, `dim1` to
`dim4`: two numbers or one for each place, with a `units` attribute. py4DSTEM may state the same as `R_pixel_size` and
`Q_pixel_size` in a group `calibration`. Positions are those of the beam, along rows and columns of the frames; the
object pixel is 1 / (N Δq), or λ / (N Δθ) where the detector is calibrated in angles. Where py4DSTEM states how the scan
is turned against the detector, they are turned. No version has a place for the energy that all programs fill:
`--voltage-v` gives it.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.formats.beamline_parts import FLAGS, POSITIONS_FLAGS, BeamlineParts, Geometry
from ptycho_adapters.files.formats.measured import MeasuredFormat
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_adapters.files.hdf5.members import read_number
from ptycho_adapters.files.hdf5.nodes import find_node
from ptycho_adapters.files.hdf5.texts import read_text, read_text_dataset
from ptycho_adapters.files.reading import Evidence, ReadRequest, ScanFormat
from ptycho_adapters.files.stacks.hdf5 import hdf5_stack
from ptycho_adapters.files.stated import Real, raster_positions
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_voltage
from ptycho_core.measurement.preparation.positions import ScanTurn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ptycho_adapters.files.stacks.stack import FrameStack

TITLE = "EMD"

_AXES = 4
_LENGTHS: Mapping[str, float] = MappingProxyType(
    {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "a": 1e-10, "å": 1e-10, "angstrom": 1e-10, "pm": 1e-12}
)
_ANGLES: Mapping[str, float] = MappingProxyType({"rad": 1.0, "mrad": 1e-3, "urad": 1e-6, "µrad": 1e-6})
_INVERSE = re.compile(r"(?:1/(?P<below>\w+)|(?P<power>\w+?)\^?-1)")
_VOLTAGES = ("accelerating_voltage", "beam_energy", "high tension", "high_tension")
_KILOVOLTS = 2000.0  # no microscope has fewer volts, nor more kilovolts
_SAME = 1e-4


@attrs.frozen
class _Step:
    """What lies between neighbours along an axis: a number and its unit."""

    size: float
    unit: str

    def in_metres(self) -> float | None:
        """Return it as a length; None for anything else."""
        factor = _LENGTHS.get(self.unit.lower())
        return None if factor is None else self.size * factor

    def in_radians(self) -> float | None:
        """Return it as an angle; None for anything else."""
        factor = _ANGLES.get(self.unit.lower())
        return None if factor is None else self.size * factor

    def in_inverse_metres(self) -> float | None:
        """Return it as a spatial frequency; None for anything else."""
        found = _INVERSE.fullmatch(self.unit.lower())
        factor = None if found is None else _LENGTHS.get(found["below"] or found["power"])
        return None if factor is None else self.size / factor


def is_emd(evidence: Evidence) -> bool:
    """Tell an EMD file by a dataset of four axes with a vector for each beside it."""
    return evidence.is_hdf5_with() and _datacube(evidence) is not None


def emd_stack(evidence: Evidence) -> FrameStack | None:
    """Find the frames, row by row; None where there are none."""
    key = _datacube(evidence)
    return None if key is None else hdf5_stack(evidence.path, key, evidence.arrays[key])


def read_emd_parts(path: Path, stack: FrameStack, request: ReadRequest) -> BeamlineParts:
    """Read steps and sampling; what is missing is among the problems.

    Args:
        path: the file.
        stack: its frames.
        request: what was said; an angle needs a wavelength, which may come from there.

    Raises:
        ScanFileError: it cannot be opened.
    """
    parts = BeamlineParts(key_of={"positions_px": "positions", "geometry": "calibration"}, raster=stack.raster)
    with collecting(path) as file:
        group = stack.key.rpartition("/")[0]
        steps = _dimensions(file, group)
        calibration = _calibration(file, stack.key)
        voltage_v = _voltage_v(file, stack.key, parts.notes)
        wavelength_m = request.stated.wavelength_m or _wavelength_m(voltage_v, file.problems)
        across = [step or calibration.get("R") for step in steps[:2]]
        sampling = [step or calibration.get("Q") for step in steps[2:]]
        parts.geometry = Geometry(
            wavelength_m=wavelength_m, pixel_m=_pixel_m(sampling, wavelength_m, stack.facts.shape[-1], file, request)
        )
        if not request.stated.places_frames:
            parts.positions_m = _positions_m(across, stack, file.problems)
        parts.turn = _turn(file, stack.key)
        parts.problems.extend(file.problems)
    return parts


EMD = MeasuredFormat(format=ScanFormat.EMD, title=TITLE, recognises=is_emd, stack=emd_stack, parts=read_emd_parts)


def _datacube(evidence: Evidence) -> str | None:
    """Give the largest dataset of four axes that has vectors for them, or lies where py4DSTEM puts it."""
    found = [
        (facts.nbytes, name)
        for name, facts in evidence.arrays.items()
        if len(facts.shape) == _AXES and (_vectors(evidence, name) or "datacube" in name.lower())
    ]
    return max(found)[1] if found else None


def _vectors(evidence: Evidence, name: str) -> bool:
    group = name.rpartition("/")[0]
    prefix = f"{group}/" if group else ""
    return any(all(f"{prefix}dim{first + axis}" in evidence.arrays for axis in range(_AXES)) for first in (0, 1))


def _dimensions(file: Collector, group: str) -> list[_Step | None]:
    """Read what the vectors of the four axes say; None for those that are counted in pixels."""
    prefix = f"{group}/" if group else ""
    first = 0 if file.has(f"{prefix}dim0") else 1
    return [_step(file, f"{prefix}dim{first + axis}") for axis in range(_AXES)]


def _step(file: Collector, key: str) -> _Step | None:
    if file.kind(key) not in {"i", "u", "f"}:
        return None
    values = file.array(key, "places along an axis")
    node = find_node(file.file, key)
    unit = None if node is None or isinstance(node, Problem) else read_text(node, "units")
    if values is None or values.size < 2 or not isinstance(unit, str):
        return None
    flat = values.astype(np.float64).ravel()
    size = float(flat[1] - flat[0])
    even = bool(np.isfinite(flat).all()) and np.allclose(np.diff(flat), size, rtol=_SAME, atol=0.0)
    step = _Step(size, _plain(unit))
    return step if even and size != 0.0 and _is_calibrated(step) else None


def _plain(unit: str) -> str:
    """Spell a unit as people do: the Berkeley format writes [n_m] and [1/n_m]."""
    return re.sub(r"[\[\]_ ]", "", unit)


def _is_calibrated(step: _Step) -> bool:
    return any(value is not None for value in (step.in_metres(), step.in_radians(), step.in_inverse_metres()))


def _calibration(file: Collector, key: str) -> dict[str, _Step]:
    """Read what py4DSTEM says about its pixels, as datasets of a group or, in older versions, as its attributes."""
    found: dict[str, _Step] = {}
    for letter, group in ((letter, group) for group in _groups(key, "calibration") for letter in "RQ"):
        size, unit = _said(file, group, f"{letter}_pixel_size"), _words(file, group, f"{letter}_pixel_units")
        if letter not in found and size is not None and unit is not None:
            step = _Step(size, _plain(unit))
            if _is_calibrated(step):
                found[letter] = step
    return found


def _groups(key: str, name: str) -> Sequence[str]:
    """List where versions of py4DSTEM keep metadata of a datacube."""
    above = key.split("/")
    places = []
    for depth in range(len(above) - 1, -1, -1):
        at = "".join(f"{part}/" for part in above[:depth])
        places += [f"{at}metadatabundle/{name}", f"{at}metadata/{name}", f"{at}metadata/metadata_0/{name}"]
        places += [f"{at}_metadata/{name}", f"{at}{name}"]
    return places


def _said(file: Collector, group: str, name: str) -> float | None:
    """Read a number above zero that is a dataset or an attribute; None where there is none."""
    value = _real(file, group, name)
    return value if value is not None and value > 0.0 else None


def _real(file: Collector, group: str, name: str) -> float | None:
    """Read a finite number, or true for 1, that is a dataset or an attribute; None where there is none."""
    node = find_node(file.file, group)
    if node is None or isinstance(node, Problem):
        return None
    value: float | Problem | None = read_number(node, name)
    key, before = f"{group}/{name}", len(file.problems)
    if value is None and file.kind(key) == "b":
        flag = file.array(key, "a flag")
        value = None if flag is None or flag.size != 1 else float(flag.astype(np.float64).ravel()[0])
    elif value is None and file.kind(key) in {"i", "u", "f"}:
        value = file.number(key)
    del file.problems[before:]
    return value if isinstance(value, float) and np.isfinite(value) else None


def _words(file: Collector, group: str, name: str) -> str | None:
    node = find_node(file.file, group)
    if node is None or isinstance(node, Problem):
        return None
    text = read_text(node, name)
    if not isinstance(text, str):
        text = read_text_dataset(file.file, f"{group}/{name}")
    return text if isinstance(text, str) else None


def _voltage_v(file: Collector, key: str, notes: dict[str, str]) -> float | None:
    places = [group for name in ("microscope", "calibration", "SoM2k") for group in _groups(key, name)]
    for group, name in ((group, name) for group in places for name in _VOLTAGES):
        value = _said(file, group, name)
        if value is not None:
            unit = "kV" if value < _KILOVOLTS else "V"
            notes["wavelength_evidence"] = f"{name} of {value:g}, taken for {unit}, unless another was given"
            return value * 1e3 if unit == "kV" else value
    return None


def _wavelength_m(voltage_v: float | None, problems: list[Problem]) -> float | None:
    try:
        return None if voltage_v is None else wavelength_from_voltage(voltage_v=voltage_v)
    except ScanError as error:
        problems.extend(error.problems)
        return None


def _pixel_m(
    sampling: Sequence[_Step | None], wavelength_m: float | None, size_px: int, file: Collector, request: ReadRequest
) -> float | None:
    """Give the object pixel by the sampling of the detector, which is the same along both axes."""
    if request.stated.pixel_m is not None or any(step is None for step in sampling):
        return None
    rows, columns = (step for step in sampling if step is not None)
    if rows.unit != columns.unit or abs(rows.size - columns.size) > _SAME * abs(columns.size):
        found = f"{rows.size:g} {rows.unit} by {columns.size:g} {columns.unit}"
        file.problems.append(Problem(path="calibration", expected="square detector pixels", found=found))
        return None
    frequency, angle = columns.in_inverse_metres(), columns.in_radians()
    if frequency is not None:
        return 1.0 / (size_px * abs(frequency))
    if angle is None:
        return None
    if wavelength_m is None:
        found = f"a detector calibrated in {columns.unit}, and none"
        problem = Problem(path="wavelength", expected="a wavelength", found=found, fix=f"give {FLAGS['wavelength']}")
        file.problems.append(problem)
        return None
    return object_pixel_m(wavelength_m=wavelength_m, distance_m=1.0, detector_pixel_m=abs(angle), size_px=size_px)


def _positions_m(across: Sequence[_Step | None], stack: FrameStack, problems: list[Problem]) -> Real | None:
    steps = [None if step is None else step.in_metres() for step in across]
    if stack.raster is None or steps[0] is None or steps[1] is None:
        problem = Problem(
            path="positions", expected="steps of the scan in a unit of length", found="none", fix=POSITIONS_FLAGS
        )
        problems.append(problem)
        return None
    return raster_positions(stack.raster, (steps[0], steps[1]))


def _turn(file: Collector, key: str) -> ScanTurn | None:
    """Read how the scan lies on the detector; None where py4DSTEM says nothing about it.

    py4DSTEM brings vectors of the detector, (row, column), to those of the scan by exchanging the two where `QR_flip`
    is set, and then turning them by `QR_rotation` from row towards column. Positions are brought the other way.
    """
    for group in _groups(key, "calibration"):
        rad, degrees = _real(file, group, "QR_rotation"), _real(file, group, "QR_rotation_degrees")
        exchanged = bool(_real(file, group, "QR_flip"))
        if rad is None and degrees is not None:
            rad = float(np.radians(degrees))
        if rad or exchanged:
            return ScanTurn(rad=rad or 0.0, exchanged=exchanged)
    return None
