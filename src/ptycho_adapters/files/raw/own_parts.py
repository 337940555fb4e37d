"""What a file says beside its frames: positions, lengths, mask and probe, of the formats that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.formats.beamline_parts import BeamlineParts, Geometry
from ptycho_adapters.files.formats.cxi.reader import is_cxi, read_cxi_parts
from ptycho_adapters.files.formats.every_measured import measured_format
from ptycho_adapters.files.formats.fold_slice import is_fold_slice, read_fold_slice_parts
from ptycho_adapters.files.formats.metadata_json import KEY as METADATA_KEY
from ptycho_adapters.files.formats.metadata_json import metadata_from_text
from ptycho_adapters.files.formats.npz.parts import DOMAIN_KEY
from ptycho_adapters.files.formats.ptyd import is_ptyd, read_ptyd_parts
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_member, read_text
from ptycho_adapters.files.reading import Container, ReadRequest
from ptycho_adapters.files.stated import Stated
from ptycho_core.errors import Problem, ScanFileError, raise_if_any
from ptycho_core.measurement.arrays import as_probe
from ptycho_core.measurement.preparation.positions import ScanTurn
from ptycho_core.measurement.scan import MeasurementDomain

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

Real = npt.NDArray[np.float64]


@attrs.define(kw_only=True, eq=False)
class OwnParts:
    """What was found; None for what the file does not say.

    Attributes:
        positions: (n, 2), (y, x).
        unit: of the positions, "m" or "px".
        geometry: lengths.
        bad: (H, W) bool.
        dark: (H, W) float32.
        probe: (modes, N, N) complex64.
        domain: what the numbers are, where the file says so.
        notes: what was found out rather than stated.
        turn: how the axes of the scan lie on the detector.
    """

    positions: Real | None = None
    unit: str = "m"
    geometry: Geometry = attrs.field(factory=Geometry)
    bad: npt.NDArray[np.bool_] | None = None
    dark: npt.NDArray[np.float32] | None = None
    probe: npt.NDArray[np.complex64] | None = None
    domain: str | None = None
    notes: dict[str, str] = attrs.field(factory=dict)
    turn: ScanTurn | None = None


def own_parts(path: Path, n_frames: int, stated: Stated | None = None, *, strict: bool = True) -> OwnParts:
    """Read what a file says beside its frames; nothing of a format that says nothing.

    Args:
        path: the file.
        n_frames: how many frames it holds.
        stated: what is said beside it, and not looked for where the format allows.
        strict: whether what is there and cannot be used is an error; else it is left out.

    Raises:
        ScanFileError: what it says cannot be read.
    """
    evidence, said = gather_evidence(path), stated or Stated()
    if is_cxi(evidence):
        parts, dark = read_cxi_parts(path, n_frames, said)
        return _of_parts(path, parts, dark, strict=strict)
    if is_ptyd(evidence):
        return _of_parts(path, read_ptyd_parts(path), strict=strict)
    if is_fold_slice(evidence):
        return _of_parts(path, read_fold_slice_parts(path), strict=strict)
    measured = measured_format(evidence)
    stack = None if measured is None else measured.stack(evidence)
    if measured is not None and stack is not None:
        return _of_parts(path, measured.parts(path, stack, ReadRequest(stated=said)), strict=strict)
    return _of_npz(path) if evidence.container is Container.ZIP else OwnParts()


def _of_parts(
    path: Path, parts: BeamlineParts, dark: npt.NDArray[np.float32] | None = None, *, strict: bool
) -> OwnParts:
    """Take what is there; what is only missing can be given.

    Raises:
        ScanFileError: something is there and cannot be used.
    """
    wrong = [one for one in parts.problems if not one.found.startswith(("only ", "none"))]
    raise_if_any(ScanFileError, str(path), wrong if strict else ())
    own = parts.own
    return OwnParts(
        positions=None if parts.positions_m is None else parts.positions_m.astype(np.float64),
        geometry=parts.geometry,
        bad=None if parts.bad_pixels is None else parts.bad_pixels.astype(np.bool_),
        dark=dark if own is None else None,
        probe=None if parts.probe is None else as_probe(parts.probe),
        domain=str(MeasurementDomain.COUNTS if own is None else own.domain),
        notes=parts.notes,
        turn=parts.turn,
    )


def _of_npz(path: Path) -> OwnParts:
    archive = open_archive(path)
    if isinstance(archive, Problem):
        raise ScanFileError(str(path), [archive])
    found: dict[str, AnyArray] = {}
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            raise ScanFileError(str(path), [infos])
        for key in ("xcoords", "ycoords", "probeGuess", "bad_pixels"):
            array = read_member(archive, infos[key]) if key in infos else None
            if isinstance(array, Problem):
                raise ScanFileError(str(path), [array])
            if array is not None:
                found[key] = array
        text = read_text(archive, infos[METADATA_KEY]) if METADATA_KEY in infos else None
        domain = read_text(archive, infos[DOMAIN_KEY]) if DOMAIN_KEY in infos else None
    parts = OwnParts(unit="px", bad=found["bad_pixels"].astype(np.bool_) if "bad_pixels" in found else None)
    parts.domain = domain if isinstance(domain, str) else None
    if isinstance(text, str):
        metadata = metadata_from_text(text)[0]
        parts.geometry = Geometry(
            wavelength_m=metadata.wavelength_m, distance_m=metadata.distance_m, pixel_m=metadata.pixel_size_m
        )
    if {"xcoords", "ycoords"} <= found.keys() and found["xcoords"].size == found["ycoords"].size:
        parts.positions = np.stack([found[key].astype(np.float64).ravel() for key in ("ycoords", "xcoords")], axis=1)
    if "probeGuess" in found and found["probeGuess"].ndim in (2, 3):
        parts.probe = as_probe(found["probeGuess"])
    return parts
