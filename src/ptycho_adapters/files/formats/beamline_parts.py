"""The parts of a scan as a beamline's file has them, and what outranks them because somebody said it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.stated import Stated, raster_positions
from ptycho_core.any_array import AnyArray
from ptycho_core.errors import Problem
from ptycho_core.measurement.preparation.positions import ScanTurn
from ptycho_core.measurement.scan import MeasurementDomain, ScanMetadata

Real = npt.NDArray[np.float64]

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "wavelength": "--energy-ev (or --wavelength-m, --voltage-v)",
        "distance": "--distance-m",
        "detector pixel": "--detector-pixel-m",
    }
)
"""What supplies a length that a file does not say."""

POSITIONS_FLAGS = "give --positions FILE --columns X,Y --unit UNIT, or --step-m Y,X of a raster"


@attrs.define(kw_only=True)
class Geometry:
    """Lengths of an experiment in metres; None for what the file does not say.

    Attributes:
        wavelength_m: wavelength.
        distance_m: from object to detector.
        detector_pixel_m: (height, width) of a detector pixel.
        pixel_m: object pixel, where the file states it rather than what it follows from.
    """

    wavelength_m: float | None = None
    distance_m: float | None = None
    detector_pixel_m: tuple[float, float] | None = None
    pixel_m: float | None = None


@attrs.frozen(kw_only=True, eq=False)
class OwnWords:
    """What a file of this library says beside what its format has a place for; it is taken as it stands.

    Attributes:
        domain: what the patterns are.
        metadata: of the scan.
        positions_px: (n, 2), exact where metres are rounded.
        object: (H, W), if any.
        scan_index: (n,), if any.
        commanded_positions_px: (n, 2), if any.
    """

    domain: MeasurementDomain
    metadata: ScanMetadata
    positions_px: AnyArray | None = None
    object: AnyArray | None = None
    scan_index: AnyArray | None = None
    commanded_positions_px: AnyArray | None = None


@attrs.define(kw_only=True, eq=False)
class BeamlineParts:
    """The parts of a scan as a beamline's file has them, with what was noted on the way.

    Attributes:
        patterns: (n, N, N) photons.
        positions_m: (n, 2), (y, x) of the beam on the object.
        positions_px: the same in object pixels, where they were said so instead.
        raster: (rows, columns) of a scan row by row.
        turn: how the axes of the scan lie on the detector, where the file says so.
        probe: (modes, N, N), if any.
        bad_pixels: (N, N) bool, True where bad, if any.
        geometry: lengths.
        own: what a file of this library says beside.
        key_of: the file's key for each part, for messages.
        problems: what is missing or damaged.
        notes: what was found out rather than stated.
    """

    patterns: AnyArray | None = None
    positions_m: AnyArray | None = None
    positions_px: npt.NDArray[np.float64] | None = None
    raster: tuple[int, int] | None = None
    turn: ScanTurn | None = None
    probe: AnyArray | None = None
    bad_pixels: AnyArray | None = None
    geometry: Geometry = attrs.field(factory=Geometry)
    own: OwnWords | None = None
    key_of: Mapping[str, str] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)
    notes: dict[str, str] = attrs.field(factory=dict)


def as_stated(parts: BeamlineParts, stated: Stated) -> None:
    """Let what was said about the experiment outrank what its file says."""
    geometry = parts.geometry
    if stated.wavelength_m is not None:
        geometry.wavelength_m = stated.wavelength_m
    if stated.distance_m is not None:
        geometry.distance_m = stated.distance_m
    if stated.detector_pixel_m is not None:
        geometry.detector_pixel_m = (stated.detector_pixel_m, stated.detector_pixel_m)
    if stated.pixel_m is not None or {"wavelength_m", "distance_m", "detector_pixel_m"} <= set(stated.names):
        geometry.pixel_m = stated.pixel_m
    if stated.places_frames:
        parts.positions_m, parts.positions_px = stated.positions, stated.positions_px
        parts.key_of = {**parts.key_of, "positions_px": "positions as given"}
    raster = stated.raster or parts.raster
    if stated.step_m is not None and raster is not None:
        parts.positions_m = raster_positions(raster, stated.step_m)
    elif stated.step_m is not None:
        fix = "give --raster ROWS,COLUMNS"
        parts.problems.append(Problem(path="raster", expected="rows and columns", found="none in the file", fix=fix))
    if stated.positions_turn_rad is not None and parts.own is not None and parts.own.object is not None:
        expected, fix = "no turn: the file says where they are on its object", "leave out --positions-turn-rad"
        parts.problems.append(Problem(path="positions", expected=expected, found="one", fix=fix))
    if stated.names:
        said = ", ".join(name.removesuffix("_m").removesuffix("_rad").replace("_", " ") for name in stated.names)
        parts.notes["stated_evidence"] = f"given by the caller: {said}"


def with_turn(positions: Real, turn: ScanTurn | None, stated: Stated, notes: dict[str, str]) -> Real:
    """Turn positions as was said, else as their file states, and note it.

    Args:
        positions: (n, 2), (y, x), in any unit.
        turn: what the file states.
        stated: what was said.
        notes: where it is noted, under `rotation_evidence`.
    """
    settled = stated.turn_of(turn)
    if settled is None:
        notes |= {} if turn is None else {"rotation_evidence": f"not {turn}, as the file states: they are given"}
        return positions
    whose = "the file states; --positions-turn-rad gives another" if stated.positions_turn_rad is None else "given"
    notes["rotation_evidence"] = f"{settled}, as {whose}"
    return settled.of(positions)
