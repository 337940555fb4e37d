"""Scans in NeXus files: a stack or a raster of frames, and what their groups say about the experiment.

The frames are the signal of the default plot, else of any NXdata group, else the largest stack. Their axes are places
of the scan: a vector for the rows and one for the columns of a raster, or a number for each frame; a name with a y in
it is y. They are taken for the sample's, with x and y as in CXI: the column of a position goes with +x, its row with
+y. Axes that are named as such are in metres where they state no unit; motors that are only found have to state one.
The energy is that of the beam or of the monochromator, never that of the source, which is the ring's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.formats.beamline_parts import POSITIONS_FLAGS, BeamlineParts, Geometry
from ptycho_adapters.files.formats.measured import MeasuredFormat
from ptycho_adapters.files.formats.nexus_axes import ScanAxis, axes_of, signal_of
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_adapters.files.hdf5.nodes import DAMAGE, open_h5
from ptycho_adapters.files.reading import ArrayFacts, Evidence, ReadRequest, ScanFormat
from ptycho_adapters.files.stacks.hdf5 import hdf5_series, hdf5_stack, numbered_series
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.geometry import ELEMENTARY_CHARGE_C, wavelength_from_energy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ptycho_adapters.files.stacks.stack import FrameStack
    from ptycho_adapters.files.stated import Real

TITLE = "NeXus"

_MARK = "NX_class"
_ENTRY = "entry"
_SMALLEST_SIDE = 8
_NO_FRAMES = ("dark", "flat", "mask", "background", "white")
_WAVELENGTHS = ("beam/incident_wavelength", "monochromator/wavelength", "beam/wavelength")
_ENERGIES = ("beam/incident_energy", "monochromator/energy", "beam/energy", "beam/incident_beam_energy")
_MASKS = ("pixel_mask", "detectorSpecific/pixel_mask")
_DISTANCES = ("distance", "detector_distance")
# Photon energies that ptychography is done with, and where a number without a unit stops being keV.
_ENERGIES_EV = (10.0, 1e6)
_LARGEST_KEV = 200.0


def is_nexus(evidence: Evidence) -> bool:
    """Tell a NeXus file by the classes of its groups, or by an entry, and by frames in it."""
    if not evidence.is_hdf5_with() or _frames_key(evidence.arrays) is None:
        return False
    return any(name.partition("/")[0].startswith(_ENTRY) for name in evidence.arrays) or _is_marked(evidence.path)


def _is_marked(path: Path) -> bool:
    file = open_h5(path)
    if isinstance(file, Problem):
        return False
    with file:
        try:
            return _MARK in file.attrs or any(_MARK in group.attrs for group in file.values())
        except DAMAGE:
            return False


def nexus_stack(evidence: Evidence) -> FrameStack | None:
    """Find the frames; None where there are none."""
    series = numbered_series(evidence)
    if series:
        return hdf5_series(evidence.path, {name: evidence.arrays[name] for name in series})
    with collecting(evidence.path) as file:
        key = signal_of(file, evidence.arrays) or _frames_key(evidence.arrays)
    return None if key is None else hdf5_stack(evidence.path, key, evidence.arrays[key])


def read_nexus_parts(path: Path, stack: FrameStack, request: ReadRequest) -> BeamlineParts:
    """Read everything of a file but its frames; what is missing is among the problems.

    Args:
        path: the file.
        stack: its frames.
        request: what was said; positions are not missed where they were.

    Raises:
        ScanFileError: it cannot be opened.
    """
    evidence = gather_evidence(path)
    names = list(evidence.arrays)
    parts = BeamlineParts(key_of={"positions_px": "positions", "geometry": "instrument"}, raster=stack.raster)
    with collecting(path) as file:
        detector = _detector(names, stack.key)
        parts.geometry = Geometry(
            wavelength_m=request.stated.wavelength_m or _wavelength_m(file, names, parts.notes),
            distance_m=request.stated.distance_m or _first_length(file, [f"{detector}{name}" for name in _DISTANCES]),
            detector_pixel_m=_detector_pixel_m(file, detector),
        )
        if not request.stated.places_frames:
            parts.positions_m = _positions_m(file, evidence, stack, parts.notes)
        mask = next((key for key in (f"{detector}{name}" for name in _MASKS) if key in evidence.arrays), None)
        if mask is not None:
            found = file.array(mask, "a mask (H, W)")
            parts.bad_pixels = None if found is None else found.astype(np.bool_)
            parts.key_of = {**parts.key_of, "bad_pixels": mask}
        _refuse_darks(file, evidence, stack, detector)
        parts.problems.extend(file.problems)
    return parts


NEXUS = MeasuredFormat(
    format=ScanFormat.NEXUS, title=TITLE, recognises=is_nexus, stack=nexus_stack, parts=read_nexus_parts
)


def _frames_key(arrays: Mapping[str, ArrayFacts]) -> str | None:
    """Give the largest stack or raster of real frames that is not called dark, flat or a mask."""
    found = [
        (one.nbytes, name)
        for name, one in arrays.items()
        if len(one.shape) in (3, 4)
        and one.dtype.kind in "iuf"
        and min(one.shape[-2:]) >= _SMALLEST_SIDE
        and one.nbytes
        and not any(word in name.rpartition("/")[2].lower() for word in _NO_FRAMES)
    ]
    return max(found)[1] if found else None


def _detector(names: Sequence[str], frames: str) -> str:
    """Give the group of the detector, with a slash behind it: the frames' own, else the first that has a pixel."""
    own = f"{frames.rpartition('/')[0]}/"
    if any(name.startswith(own) and name.rpartition("/")[2] in {"x_pixel_size", *_DISTANCES} for name in names):
        return own
    pixels = [name for name in names if name.endswith("/x_pixel_size")]
    distances = [
        name for name in names if name.endswith(tuple(f"/{name}" for name in _DISTANCES)) and "detector" in name
    ]
    found = (pixels or distances or [own])[0]
    return f"{found.rpartition('/')[0]}/"


def _first_length(file: Collector, keys: Sequence[str]) -> float | None:
    key = next((key for key in keys if file.kind(key) in {"i", "u", "f"}), None)
    value = None if key is None else file.number(key, "m")
    return abs(value) if value is not None and np.isfinite(value) and value != 0.0 else None


def _detector_pixel_m(file: Collector, detector: str) -> tuple[float, float] | None:
    sides = [_first_length(file, [f"{detector}{axis}_pixel_size"]) for axis in "yx"]
    height, width = sides[0] or sides[1], sides[1] or sides[0]
    return None if height is None or width is None else (height, width)


def _wavelength_m(file: Collector, names: Sequence[str], notes: dict[str, str]) -> float | None:
    """Settle the wavelength: as it is stated, or by the energy."""
    key = _ending(names, _WAVELENGTHS)
    stated_m = None if key is None else file.positive(key, "m")
    if stated_m is not None and stated_m < 1e-3:
        return stated_m
    key = _ending(names, _ENERGIES)
    energy_ev = None if key is None else _energy_ev(file, key, notes)
    if energy_ev is None or key is None:
        return None
    smallest, largest = _ENERGIES_EV
    if not smallest <= energy_ev <= largest:
        expected = f"a photon energy from {smallest:g} to {largest:g} eV"
        file.problems.append(Problem(path=key, expected=expected, found=f"{energy_ev:g} eV", fix="give --energy-ev"))
        return None
    try:
        return wavelength_from_energy(energy_ev=energy_ev)
    except ScanError as error:
        file.problems.extend(error.problems)
        return None


def _energy_ev(file: Collector, key: str, notes: dict[str, str]) -> float | None:
    joules = file.positive(key, "J")
    if joules is None:
        return None
    if file.unit(key):
        return joules / ELEMENTARY_CHARGE_C
    unit = "keV" if joules < _LARGEST_KEV else "eV"
    notes["wavelength_evidence"] = f"{key} of {joules:g} without a unit was taken for {unit}"
    return 1e3 * joules if unit == "keV" else joules


def _ending(names: Sequence[str], endings: Sequence[str]) -> str | None:
    """Give the first path that ends so, whatever numbers or places its groups are called by."""
    for ending in endings:
        group, _, last = ending.rpartition("/")
        for name in names:
            above, _, own = name.rpartition("/")
            if own == last and group in above.rpartition("/")[2].lower():
                return name
    return None


def _positions_m(file: Collector, evidence: Evidence, stack: FrameStack, notes: dict[str, str]) -> Real | None:
    axes = axes_of(file, evidence, stack)
    if axes is None:
        expected = f"axes of the scan: x and y for {stack.facts.shape[0]} frames"
        problem = Problem(path="positions", expected=expected, found="none that fit", fix=POSITIONS_FLAGS)
        file.problems.append(problem)
        return None
    rows, columns = (_values(file, axis, stack) for axis in axes)
    if rows is None or columns is None:
        return None
    notes["positions_evidence"] = f"y by {axes[0].key}, x by {axes[1].key}, taken for the sample's"
    return np.stack([rows, columns], axis=1)


def _values(file: Collector, axis: ScanAxis, stack: FrameStack) -> Real | None:
    """Give a coordinate for each frame."""
    values = file.quantity(axis.key, "places of the scan", "m")
    if values is None:
        return None
    flat = values.astype(np.float64)
    if axis.of_raster is None or stack.raster is None:
        return flat.ravel()
    spread = flat.ravel()[:, np.newaxis] if axis.of_raster == 0 else flat.ravel()[np.newaxis]
    return np.broadcast_to(spread, stack.raster).ravel()


def _refuse_darks(file: Collector, evidence: Evidence, stack: FrameStack, detector: str) -> None:
    """Refuse to pass over dark frames beside the frames, or with their detector."""
    places = {stack.key.rpartition("/")[0], detector.rstrip("/")}
    for name, facts in evidence.arrays.items():
        group, _, last = name.rpartition("/")
        if group in places and "dark" in last.lower() and facts.shape[-2:] == stack.facts.shape[-2:]:
            fix = "take them off with ptycho prepare IN OUT.npz --dark FILE"
            file.problems.append(Problem(path=name, expected="frames alone", found="dark frames beside them", fix=fix))
