"""From what a beamline's file holds to a scan: bad pixels, the place of the beam, metres to pixels, the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.bad_pixels import clear_bad_pixels
from ptycho_adapters.files.evidence.centre import BeamPlace, find_beam
from ptycho_adapters.files.evidence.detector import check_detector, with_check_as_fix
from ptycho_adapters.files.evidence.domain import holds_whole_squares
from ptycho_adapters.files.formats.beamline_parts import FLAGS, BeamlineParts, as_stated, with_turn
from ptycho_adapters.files.in_place import as_unsigned, sealed, unsealed
from ptycho_adapters.files.reading import (
    MISSING_PROBE,
    DetectorCheck,
    ProbeSetting,
    ReadRequest,
    choose_probe,
    mean_photons,
)
from ptycho_core.errors import Problem, ScanError, ScanFileError, raise_if_any
from ptycho_core.measurement.arrays import Patterns, as_patterns
from ptycho_core.measurement.checks import ScanParts, pattern_shape, scan_problems
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.geometry import object_pixel_m, positions_px_from_m
from ptycho_core.measurement.plausibility import geometry_problems, position_problems
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from ptycho_core.measurement.stored import stored

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

_SQUARE_TOLERANCE = 1e-6
_SAME_POSITION_PX = 1e-3


@attrs.frozen(kw_only=True, eq=False)
class _Settled:
    """What is known of a scan by the time that its probe is needed."""

    patterns: Patterns
    positions_px: npt.NDArray[np.float64]
    domain: MeasurementDomain
    pixel_m: float | None

    def photons(self) -> float:
        """Give the photons per frame."""
        return mean_photons(self.patterns, self.domain)


def scan_of(parts: BeamlineParts, path: Path, request: ReadRequest) -> Scan:
    """Make a scan of the parts.

    Args:
        parts: what the file holds; the patterns are taken out and may be changed where they lie; notes and problems
            are added.
        path: the file, for messages.
        request: what the caller said.

    Returns:
        The scan, with the notes in its metadata.

    Raises:
        ScanFileError: with every problem there is.
    """
    full_scale = None if request.pattern_map is None else request.pattern_map.full_scale
    as_stated(parts, request.stated)
    _clear_bad_pixels(parts, full_scale)
    pixel_m = _pixel_m(parts, parts.patterns)
    positions = _placed(parts, pixel_m, request)
    domain = _domain(parts, request)
    positions = _check_detector(parts, positions, domain, request, full_scale)
    patterns = _taken(parts, request.detector_check)
    shape = ScanParts(patterns=patterns, positions_px=positions, probe=None, bad_pixels=parts.bad_pixels)
    problems = [with_check_as_fix(problem, request.detector_check) for problem in scan_problems(shape)]
    parts.problems.extend(_in_file_terms(problem, parts) for problem in problems)
    if parts.problems and parts.probe is None and request.probe is None:
        parts.problems.append(MISSING_PROBE)
    raise_if_any(ScanFileError, str(path), parts.problems)
    if patterns is None or positions is None or domain is None:
        raise ScanFileError(str(path), [Problem(path="file", expected="patterns and positions", found="none")])
    if parts.own is None:
        patterns = _with_beam_in_the_middle(parts, patterns)
    settled = _Settled(patterns=patterns, positions_px=positions, domain=domain, pixel_m=pixel_m)
    probe = _probe(parts, settled, request)
    if probe is None:
        raise ScanFileError(str(path), parts.problems)
    try:
        return _scan(parts, settled, probe)
    except ScanError as error:
        raise ScanFileError(str(path), [_in_file_terms(problem, parts) for problem in error.problems]) from None


def _taken(parts: BeamlineParts, check: DetectorCheck) -> Patterns | None:
    """Take the patterns out of the parts, so that they are held once."""
    found, parts.patterns = None if _is_negative(parts, check) else parts.patterns, None
    return None if found is None else as_patterns(as_unsigned(found))


def _clear_bad_pixels(parts: BeamlineParts, full_scale: int | None) -> None:
    """Take out what detectors write where they have no pixel; a file of this library has none of it."""
    if parts.own is None and parts.patterns is not None:
        cleared = clear_bad_pixels(parts.patterns, parts.bad_pixels, full_scale=full_scale)
        parts.patterns, parts.bad_pixels = cleared.patterns, cleared.mask
        parts.notes.update(cleared.notes)


def _check_detector(
    parts: BeamlineParts,
    positions: npt.NDArray[np.float64] | None,
    domain: MeasurementDomain | None,
    request: ReadRequest,
    full_scale: int | None,
) -> npt.NDArray[np.float64] | None:
    """Take out what is no measurement, with all that belongs to frames that are left out; give the positions left."""
    own = parts.own
    shape = ScanParts(
        patterns=parts.patterns,
        positions_px=positions,
        probe=None,
        bad_pixels=parts.bad_pixels,
        scan_index=None if own is None else own.scan_index,
        commanded_positions_px=None if own is None else own.commanded_positions_px,
    )
    parts.patterns = None
    checked = check_detector(shape, domain, request.detector_check, full_scale=full_scale)
    left = checked.parts
    parts.patterns, parts.bad_pixels = left.patterns, left.bad_pixels
    parts.notes.update(checked.notes)
    parts.problems.extend(_in_file_terms(problem, parts) for problem in checked.problems)
    if own is not None:
        parts.own = attrs.evolve(own, scan_index=left.scan_index, commanded_positions_px=left.commanded_positions_px)
    return cast("npt.NDArray[np.float64] | None", left.positions_px)


def _is_negative(parts: BeamlineParts, check: DetectorCheck) -> bool:
    """Refuse negative integers before they are widened."""
    patterns = parts.patterns
    if patterns is None or patterns.dtype.kind != "i" or not patterns.size:
        return False
    values = cast("npt.NDArray[np.int64]", patterns)
    low = min(int(np.min(values[some])) for some in frame_slices(values))
    if low < 0:
        fix = "mark the pixels in the mask, or set them to 0 where they are noise about a dark level"
        found = f"a smallest value of {low}"
        problem = Problem(path=_key(parts, "patterns"), expected="values >= 0", found=found, fix=fix)
        parts.problems.append(with_check_as_fix(problem, check))
    return low < 0


def _pixel_m(parts: BeamlineParts, patterns: AnyArray | None) -> float | None:
    """Give the object pixel: as the file states it, or from the geometry."""
    geometry = parts.geometry
    if geometry.pixel_m is not None or (parts.own is not None and parts.own.metadata.pixel_size_m is not None):
        return geometry.pixel_m if parts.own is None else parts.own.metadata.pixel_size_m
    known = pattern_shape(patterns)
    values = {
        "wavelength": geometry.wavelength_m,
        "distance": geometry.distance_m,
        "detector pixel": geometry.detector_pixel_m,
    }
    missing = [name for name, value in values.items() if value is None]
    if missing and parts.positions_px is None:
        found = f"no {', no '.join(missing)}"
        fix = f"give {', '.join(FLAGS[name] for name in missing)}, or --pixel-m"
        problem = Problem(path=_key(parts, "geometry"), expected="the object pixel's origin", found=found, fix=fix)
        parts.problems.append(problem)
    if parts.own is None:
        pixel = None if geometry.detector_pixel_m is None else max(map(abs, geometry.detector_pixel_m))
        wrong = geometry_problems(distance_m=geometry.distance_m, detector_pixel_m=pixel)
        parts.problems.extend(attrs.evolve(one, path=f"{_key(parts, 'geometry')}: {one.path}") for one in wrong)
        missing += [one.path for one in wrong]
    if known is None or geometry.wavelength_m is None or geometry.distance_m is None or missing:
        return None
    height, width = cast("tuple[float, float]", geometry.detector_pixel_m)
    if not abs(height - width) <= _SQUARE_TOLERANCE * abs(width):
        found = f"{height:g} by {width:g} m"
        parts.problems.append(Problem(path=_key(parts, "geometry"), expected="square detector pixels", found=found))
        return None
    try:
        return object_pixel_m(
            wavelength_m=geometry.wavelength_m,
            distance_m=abs(geometry.distance_m),
            detector_pixel_m=abs(width),
            size_px=known[1],
        )
    except ScanError as error:
        parts.problems.extend(error.problems)
        return None


def _placed(parts: BeamlineParts, pixel_m: float | None, request: ReadRequest) -> npt.NDArray[np.float64] | None:
    """Give positions in object pixels, turned as was said or as the file states."""
    positions = _positions_px(parts, pixel_m)
    return None if positions is None else with_turn(positions, parts.turn, request.stated, parts.notes)


def _positions_px(parts: BeamlineParts, pixel_m: float | None) -> npt.NDArray[np.float64] | None:
    if parts.positions_px is not None:
        return parts.positions_px
    if parts.positions_m is None or pixel_m is None:
        return None
    try:
        positions = positions_px_from_m(parts.positions_m, pixel_m=pixel_m)
    except ScanError as error:
        parts.problems.extend(_in_file_terms(problem, parts, "positions_px") for problem in error.problems)
        return None
    if parts.own is None and parts.patterns is not None and np.isfinite(positions).all():
        wrong = position_problems(positions, size_px=parts.patterns.shape[-1])
        parts.problems.extend(_in_file_terms(one, parts) for one in wrong)
    exact = None if parts.own is None else parts.own.positions_px
    if exact is not None and exact.shape == positions.shape and exact.dtype == np.float64:
        exact = cast("npt.NDArray[np.float64]", exact)
        if np.allclose(exact, positions, rtol=1e-9, atol=_SAME_POSITION_PX):
            return exact
        parts.notes["positions_evidence"] = "from the metres: the pixels kept beside them are others"
    return positions


def _domain(parts: BeamlineParts, request: ReadRequest) -> MeasurementDomain | None:
    """Settle the domain: the caller's word, then the file's, then the format's, which holds photons."""
    patterns = parts.patterns
    if parts.own is not None:
        said = f"; the file says {parts.own.domain}"
        if request.domain is not None and request.domain is not parts.own.domain:
            parts.notes["domain_evidence"] = f"given by the caller{said}"
        return request.domain or parts.own.domain
    if request.domain is not None:
        parts.notes["domain_evidence"] = "given by the caller"
        return request.domain
    if patterns is None or patterns.dtype.kind not in "iuf" or not patterns.size:
        return None
    if patterns.ndim == 3 and holds_whole_squares(cast("Patterns", patterns)):
        problem = Problem(
            path="measurement_domain",
            expected="photon counts, as the format has them",
            found="values whose squares are whole numbers, as amplitudes have",
            fix="say which with domain= or --domain",
        )
        parts.problems.append(problem)
        return None
    parts.notes["domain_evidence"] = "the format holds photons"
    return MeasurementDomain.COUNTS


def _with_beam_in_the_middle(parts: BeamlineParts, patterns: Patterns) -> Patterns:
    mask = None if parts.bad_pixels is None else parts.bad_pixels.astype(np.bool_)
    beam = find_beam(patterns, mask)
    if beam.place is BeamPlace.UNCLEAR:
        parts.notes["centre_evidence"] = f"taken for the middle; {beam}"
    if beam.place is not BeamPlace.CORNER:
        return patterns
    parts.notes["centre_evidence"] = f"zero frequency was moved from the corner to the middle: {beam}"
    if mask is not None:
        parts.bad_pixels = np.fft.fftshift(mask)
    left = stored(patterns)
    if left is not None:
        return cast("Patterns", left.changed(lambda frames, _: np.fft.fftshift(frames, axes=(1, 2))))
    moved = unsealed(patterns)
    for some in frame_slices(moved):
        for frame in moved[some]:
            frame[...] = np.fft.fftshift(frame)
    return sealed(moved)


def _probe(parts: BeamlineParts, settled: _Settled, request: ReadRequest) -> npt.NDArray[np.complex64] | None:
    setting = ProbeSetting(
        size_px=settled.patterns.shape[1],
        photons=settled.photons(),
        pixel_m=settled.pixel_m,
        wavelength_m=parts.geometry.wavelength_m,
        distance_m=parts.geometry.distance_m,
    )
    try:
        probe = choose_probe(parts.probe, request, setting, parts.notes)
    except ScanError as error:
        parts.problems.extend(error.problems)
        return None
    if isinstance(probe, Problem):
        parts.problems.append(probe)
        return None
    return probe


def _scan(parts: BeamlineParts, settled: _Settled, probe: npt.NDArray[np.complex64]) -> Scan:
    own, geometry = parts.own, parts.geometry
    optional: dict[str, AnyArray | None] = {"bad_pixels": parts.bad_pixels}
    if own is None:
        metadata = ScanMetadata(
            pixel_size_m=settled.pixel_m, wavelength_m=geometry.wavelength_m, distance_m=geometry.distance_m
        )
    else:
        metadata = own.metadata
        optional |= {
            "object": own.object,
            "scan_index": own.scan_index,
            "commanded_positions_px": own.commanded_positions_px,
        }
    return Scan(
        patterns=settled.patterns,
        positions_px=settled.positions_px,
        probe=probe,
        domain=settled.domain,
        metadata=attrs.evolve(metadata, extra={**metadata.extra, **parts.notes}),
        **{key: array for key, array in optional.items() if array is not None},
    )


def _key(parts: BeamlineParts, part: str) -> str:
    return parts.key_of.get(part, part)


def _in_file_terms(problem: Problem, parts: BeamlineParts, part: str | None = None) -> Problem:
    return attrs.evolve(problem, path=_key(parts, part or problem.path))
