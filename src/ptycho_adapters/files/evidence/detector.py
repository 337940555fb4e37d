"""What a detector got wrong, taken out of the parts of a scan before they are one, whatever format they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.bad_pixels import clear_under_mask
from ptycho_adapters.files.in_place import keep_frames, sealed, unsealed
from ptycho_adapters.files.reading import DetectorCheck
from ptycho_adapters.stages import stage
from ptycho_core.errors import Problem
from ptycho_core.measurement.checks import ScanParts
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.screening import Screening, screen_patterns
from ptycho_core.measurement.stored import stored
from ptycho_core.measurement.suspicions import LEFT_OUT, SCREENED

if TYPE_CHECKING:
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.scan import MeasurementDomain
    from ptycho_core.measurement.stored import Change, Numbers

_WIDEST_INTEGER = 4
_MENDED = ("finite values", "values >= 0", "photons in every frame")


@attrs.frozen(kw_only=True, eq=False)
class Checked:
    """Parts of a scan without what is no measurement.

    Attributes:
        parts: of the scan.
        notes: what was found, for the metadata; by kind.
        problems: what keeps the parts from being meant as they are.
    """

    parts: ScanParts
    notes: dict[str, str]
    problems: tuple[Problem, ...] = ()


def full_scale_of(dtype: np.dtype[np.generic]) -> int | None:
    """Give the largest number of the integers that a file holds; None for what no detector writes."""
    return int(np.iinfo(dtype.name).max) if dtype.kind in "iu" and dtype.itemsize <= _WIDEST_INTEGER else None


def check_detector(
    parts: ScanParts, domain: MeasurementDomain | None, check: DetectorCheck, *, full_scale: int | None = None
) -> Checked:
    """Find what is no measurement, and mask, replace or leave it out.

    Args:
        parts: as the file has them; with `MASK`, the patterns are changed where they lie.
        domain: what the patterns are; where that is not known, nothing is looked for.
        check: what is to be done.
        full_scale: largest number of the type in the file.

    Returns:
        The parts. Frames are left out with all that belongs to them; notes keep the numbers that they had.
    """
    mask = parts.bad_pixels
    if check is DetectorCheck.OFF or domain is None or parts.patterns is None:
        return Checked(parts=parts, notes={})
    known = None if mask is None else cast("npt.NDArray[np.bool_]", mask.astype(np.bool_))
    with stage("screening", patterns=sum(parts.patterns.shape[:1])):
        found = screen_patterns(parts.patterns, known, domain=domain, full_scale=full_scale)
    if found is None:
        return Checked(parts=parts, notes={})
    if found.problem is not None:
        # What an inverted mask does to the frames is not worth saying.
        return Checked(parts=attrs.evolve(parts, bad_pixels=None), notes={}, problems=(found.problem,))
    mends = check is DetectorCheck.MASK
    notes: dict[str, str] = {}
    for finding in (fault.finding(mended=mends) for fault in found.faults):
        key = SCREENED + finding.kind
        notes[key] = f"{notes[key]}; {finding.text}" if key in notes else finding.text
    return Checked(parts=_mended(parts, found, known, full_scale, notes) if mends else parts, notes=notes)


def with_check_as_fix(problem: Problem, check: DetectorCheck) -> Problem:
    """Name the check that would have mended a problem, where it was not asked for."""
    if check is DetectorCheck.MASK or problem.expected not in _MENDED:
        return problem
    fix = 'let what is no measurement be left out with detector_check="mask" or --detector-check mask'
    return attrs.evolve(problem, fix=f"{problem.fix}, or {fix}" if problem.fix else fix)


def _mended(
    parts: ScanParts,
    found: Screening,
    known: npt.NDArray[np.bool_] | None,
    full_scale: int | None,
    notes: dict[str, str],
) -> ScanParts:
    """Do what was found to be done; in as little memory as can be."""
    patterns = cast("AnyArray", parts.patterns)
    if known is not None and known.shape == found.mask.shape:
        patterns, n_cleared = clear_under_mask(patterns, known, full_scale)
        if n_cleared:
            notes["cleared_bad_pixels"] = f"{n_cleared} values under the mask that are no counts were set to 0"
    mask = parts.bad_pixels
    if found.mask.any():
        mask = found.mask if known is None else found.mask | known
        patterns, _ = clear_under_mask(patterns, found.mask, full_scale)
    if found.clip or len(found.values):
        patterns = _changed(patterns, found)
    changed = attrs.evolve(parts, patterns=patterns, bad_pixels=mask)
    rows = (parts.positions_px, parts.scan_index, parts.commanded_positions_px)
    n_frames = len(patterns)
    # Where frames and positions do not pair, none of them can be left out.
    if not found.left_out.size or any(row is not None and len(row) != n_frames for row in rows):
        return changed
    kept = np.setdiff1d(np.arange(n_frames), found.left_out)
    notes[LEFT_OUT] = str(found.left_out.size)
    positions, index, commanded = (None if row is None else row[kept] for row in rows)
    return attrs.evolve(
        changed,
        patterns=keep_frames(patterns, kept),
        positions_px=positions,
        scan_index=index,
        commanded_positions_px=commanded,
    )


def _changed(patterns: AnyArray, found: Screening) -> AnyArray:
    left = stored(patterns)
    if left is not None:
        return left.changed(_replacing(found)).as_array()
    values = unsealed(cast("npt.NDArray[np.float64]", patterns))
    frames, rows, columns = found.replaced.T
    values[frames, rows, columns] = found.values
    if found.clip:
        for some in frame_slices(values):
            np.maximum(values[some], 0, out=values[some])
    return sealed(values)


def _replacing(found: Screening) -> Change:
    """Give the same change for some frames at a time."""
    order = np.argsort(found.replaced[:, 0], kind="stable")
    replaced, values = found.replaced[order], found.values[order]

    def change(frames: AnyArray, numbers: Numbers) -> AnyArray:
        changed = cast("npt.NDArray[np.float64]", frames)
        starts, ends = (np.searchsorted(replaced[:, 0], numbers, side=side) for side in ("left", "right"))
        for frame in np.flatnonzero(ends > starts):
            here = slice(starts[frame], ends[frame])
            changed[frame, replaced[here, 1], replaced[here, 2]] = values[here]
        return np.maximum(changed, 0, out=changed) if found.clip else changed

    return change
