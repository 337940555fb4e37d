"""What a file holds that is not a scan yet: frames, lengths, positions, and what makes a scan of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.raw.frames import RawFrames, raw_frames
from ptycho_adapters.files.raw.own_parts import OwnParts, own_parts
from ptycho_core.errors import ScanError, ScanFileError
from ptycho_core.measurement.geometry import object_pixel_m
from ptycho_core.measurement.preparation.frames import beam_centre

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.reading import Evidence

_LOOKED_AT, _LISTED = 16, 40
_COLUMNS = ("--columns", "X,Y", "--unit", "UNIT")
FOUND_BY = "centre of mass of the bright light in the first frames"


@attrs.frozen(kw_only=True)
class Description:
    """What there is.

    Attributes:
        facts: by section and name; None where not given.
        command: what makes a scan of it, with what has to be filled in in capitals; None where the file has no frames.
    """

    facts: Mapping[str, Mapping[str, object]]
    command: str | None


def describe_file(evidence: Evidence) -> Description:
    """Describe a file that is no scan yet, as far as it can be read.

    Args:
        evidence: what the file shows.

    Raises:
        ScanFileError: it shows no array at all.
    """
    arrays = {name: f"{facts.shape} of {facts.dtype}" for name, facts in list(evidence.arrays.items())[:_LISTED]}
    try:
        source = raw_frames(evidence.path)
    except ScanFileError:
        if not arrays:
            raise
        return Description(facts={"arrays": arrays}, command=None)
    own = _own(evidence.path, source)
    facts = {"frames": _frames(source, own), "positions": _positions(own), "geometry": _geometry(own, source)}
    return Description(facts=facts | {"arrays": arrays}, command=_command(source, own))


def _own(path: Path, source: RawFrames) -> OwnParts:
    """Read what the file says beside its frames; what cannot be read is among the problems of the reading already."""
    try:
        return own_parts(path, source.shape[0], strict=False)
    except ScanFileError:
        return OwnParts()


def _frames(source: RawFrames, own: OwnParts) -> dict[str, object]:
    number, height, width = source.shape
    facts: dict[str, object] = {
        "in": source.key or source.path.name,
        "number": number,
        "size_px": [height, width],
        "number_format": str(source.dtype),
        "raster": None if source.raster is None else list(source.raster),
        "dark_frames": own.dark is not None,
        "bad_pixels": None if own.bad is None else int(np.count_nonzero(own.bad)),
    }
    try:
        some = next(source.pieces(np.arange(min(_LOOKED_AT, number))))
        bad = own.bad if own.bad is not None and own.bad.shape == (height, width) else np.zeros((height, width), bool)
        mean = some.mean(axis=0, dtype=np.float64)
        light = np.where(bad, 0.0, mean if own.dark is None or own.dark.shape != mean.shape else mean - own.dark)
        facts["counts_per_frame"] = float(light.sum())
        facts["centre_px"] = [round(place, 2) for place in beam_centre(light, bad)]
        facts["centre_found_by"] = FOUND_BY
    except (ScanError, ScanFileError) as error:
        facts["centre_px"] = None
        facts["centre_found_by"] = str(error.problems[0])
    return facts


def _positions(own: OwnParts) -> dict[str, object]:
    if own.positions is None:
        return {"number": None}
    extent = np.ptp(own.positions, axis=0)
    return {"number": len(own.positions), f"extent_{own.unit}": [float(extent[0]), float(extent[1])]}


def _geometry(own: OwnParts, source: RawFrames) -> dict[str, object]:
    lengths = own.geometry
    pixel, side = lengths.pixel_m, None if lengths.detector_pixel_m is None else lengths.detector_pixel_m[1]
    if pixel is None and lengths.wavelength_m and lengths.distance_m and side:
        size = min(source.shape[1:])
        pixel = object_pixel_m(
            wavelength_m=lengths.wavelength_m, distance_m=abs(lengths.distance_m), detector_pixel_m=side, size_px=size
        )
    return {
        "wavelength_m": lengths.wavelength_m,
        "distance_m": lengths.distance_m,
        "detector_pixel_m": side,
        "expected_object_pixel_m": pixel,
        "probe": None if own.probe is None else list(own.probe.shape),
    }


def _command(source: RawFrames, own: OwnParts) -> str:
    """Give the preparation that mends the size and asks for what is missing."""
    lengths = own.geometry
    placed = ["--step-m", "Y,X"] if source.raster is not None else ["--positions", "FILE", *_COLUMNS]
    flags = [] if own.positions is not None else placed
    if lengths.pixel_m is None and (own.unit != "px" or own.positions is None):
        flags += [] if lengths.wavelength_m else ["--energy-ev", "NUMBER"]
        flags += [] if lengths.distance_m else ["--distance-m", "NUMBER"]
        flags += [] if lengths.detector_pixel_m else ["--detector-pixel-m", "NUMBER"]
    size = min(*source.shape[1:], 2048)
    return shlex.join(["ptycho", "prepare", str(source.path), "OUT.npz", "--size", str(size), *flags])
