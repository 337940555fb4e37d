"""What a file holds that is not a scan yet: frames, lengths, positions, and what makes a scan of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.raw.frames import RawFrames, raw_frames
from ptycho_adapters.files.raw.number_formats import NumberFormatError, in_words
from ptycho_adapters.files.raw.own_parts import OwnParts, own_parts
from ptycho_core.config.frame_sides import LARGEST_PX, SMALLEST_PX
from ptycho_core.errors import Problem, ScanError, ScanFileError
from ptycho_core.measurement.beam import BeamCentre, find_beam_centre
from ptycho_core.measurement.geometry import object_pixel_m

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.reading import Evidence

_LOOKED_AT, _LISTED = 16, 40
_COLUMNS = ("--columns", "X,Y", "--unit", "UNIT")


@attrs.frozen(kw_only=True)
class Description:
    """What there is.

    Attributes:
        facts: by section and name; None where not given.
        command: what makes a scan of it, with what has to be filled in in capitals; None where the file has no frames.
        mean: (H, W) mean of some frames; None where there are none that can be read.
        beam: where the direct beam is in it; None where there is no light.
        refused: why the frames that are there are not taken.
    """

    facts: Mapping[str, Mapping[str, object]]
    command: str | None
    mean: npt.NDArray[np.float64] | None = None
    beam: BeamCentre | None = None
    refused: tuple[Problem, ...] = ()


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
    except NumberFormatError as error:
        shown = arrays or {evidence.path.name: error.problems[0].found}
        return Description(facts={"arrays": shown}, command=None, refused=error.problems)
    except ScanFileError:
        if not arrays:
            raise
        return Description(facts={"arrays": arrays}, command=None)
    own = _own(evidence.path, source)
    frames, mean, beam = _frames(source, own)
    facts = {"frames": frames, "positions": _positions(own), "geometry": _geometry(own, source)}
    return Description(facts=facts | {"arrays": arrays}, command=_command(source, own), mean=mean, beam=beam)


def _own(path: Path, source: RawFrames) -> OwnParts:
    """Read what the file says beside its frames; what cannot be read is among the problems of the reading already."""
    try:
        return own_parts(path, source.shape[0], strict=False)
    except ScanFileError:
        return OwnParts()


def _frames(
    source: RawFrames, own: OwnParts
) -> tuple[dict[str, object], npt.NDArray[np.float64] | None, BeamCentre | None]:
    number, height, width = source.shape
    facts: dict[str, object] = {
        "in": source.key or source.path.name,
        "number": number,
        "size_px": [height, width],
        "number_format": in_words(source.dtype),
        "raster": None if source.raster is None else list(source.raster),
        "dark_frames": own.dark is not None,
        "bad_pixels": None if own.bad is None else int(np.count_nonzero(own.bad)),
    }
    light = None
    try:
        light = _light(source, own)
        facts["counts_per_frame"] = float(light.sum())
        beam = find_beam_centre(
            light, np.zeros(light.shape, dtype=bool) if own.bad is None or own.bad.shape != light.shape else own.bad
        )
    except (ScanError, ScanFileError) as error:
        return facts | {"centre_px": None, "centre_found_by": str(error.problems[0])}, light, None
    facts |= {"centre_px": list(beam.place_px), "centre_found_by": beam.found_by}
    return facts, light, beam


def _light(source: RawFrames, own: OwnParts) -> npt.NDArray[np.float64]:
    """Give the mean of some frames, less what they show without light; 0 where bad."""
    mean = source.spread(np.arange(source.shape[0]), _LOOKED_AT).mean(axis=0, dtype=np.float64)
    light = mean - own.dark if own.dark is not None and own.dark.shape == mean.shape else mean
    bad = ~np.isfinite(light) | (own.bad if own.bad is not None and own.bad.shape == mean.shape else False)
    return np.where(bad, 0.0, light)


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
    """Give what mends the size and asks for what is missing; where a probe is all that is, no preparation does."""
    lengths = own.geometry
    usable = own.positions is not None and len(own.positions) == source.shape[0]
    placed = ["--step-m", "Y,X"] if source.raster is not None else ["--positions", "FILE", *_COLUMNS]
    flags = [] if usable else placed
    if lengths.pixel_m is None and (own.unit != "px" or not usable):
        flags += [] if lengths.wavelength_m else ["--energy-ev", "NUMBER"]
        flags += [] if lengths.distance_m else ["--distance-m", "NUMBER"]
        flags += [] if lengths.detector_pixel_m else ["--detector-pixel-m", "NUMBER"]
    size = max(SMALLEST_PX, min(*source.shape[1:], LARGEST_PX))
    if not flags and source.shape[1:] == (size, size) and own.probe is None:
        return shlex.join(["ptycho", "convert", str(source.path), "OUT.npz", "--probe", "FILE"])
    return shlex.join(["ptycho", "prepare", str(source.path), "OUT.npz", "--size", str(size), *flags])
