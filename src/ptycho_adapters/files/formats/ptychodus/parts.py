"""From what Ptychodus files hold to a scan: patterns and positions paired by index, the domain, the probe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.detector import check_detector, with_check_as_fix
from ptycho_adapters.files.evidence.domain import holds_whole_squares
from ptycho_adapters.files.formats.metadata_json import metadata_from_text
from ptycho_adapters.files.reading import ProbeSetting, ReadRequest, choose_probe, mean_photons
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanError, ScanFileError
from ptycho_core.measurement.arrays import as_patterns
from ptycho_core.measurement.checks import ScanParts, pattern_shape, scan_problems
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.arrays import Patterns

_LOG = logging.getLogger(__name__)


@attrs.define(kw_only=True, eq=False)
class PtychodusParts:
    """The parts of a scan as Ptychodus files have them, with what was noted on the way.

    Attributes:
        patterns: (n, N, N) photon counts.
        positions_px: (n, 2), (y, x) in object pixels.
        probe: (modes, N, N), if any.
        object: (H, W) whose pixel [0, 0] lies at (0, 0), if any.
        bad_pixels: (N, N), True where bad, if any.
        scan_index: (n,), if any.
        commanded_positions_px: (n, 2), if any.
        metadata: what is known beside.
        key_of: the file's name for each part, for messages.
        problems: what is missing or damaged.
        notes: what was found out rather than stated.
    """

    patterns: AnyArray | None = None
    positions_px: AnyArray | None = None
    probe: AnyArray | None = None
    object: AnyArray | None = None
    bad_pixels: AnyArray | None = None
    scan_index: AnyArray | None = None
    commanded_positions_px: AnyArray | None = None
    metadata: ScanMetadata = attrs.field(factory=ScanMetadata)
    key_of: Mapping[str, str] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)
    notes: dict[str, str] = attrs.field(factory=dict)

    def as_scan_parts(self, patterns: AnyArray | None) -> ScanParts:
        """Give what is to be validated, the probe aside."""
        return ScanParts(
            patterns=patterns,
            positions_px=self.positions_px,
            probe=None,
            object=self.object,
            bad_pixels=self.bad_pixels,
            scan_index=self.scan_index,
            commanded_positions_px=self.commanded_positions_px,
        )

    def in_file_terms(self, problem: Problem) -> Problem:
        """Name a part as the file does."""
        return attrs.evolve(problem, path=self.key_of.get(problem.path, problem.path))


@attrs.frozen(kw_only=True, eq=False)
class Pairing:
    """Which patterns have a position, and where they are.

    Attributes:
        kept: (m,) indices into the patterns; None when all are kept, in their order.
        rows: (m, k) what belongs to each kept pattern.
        note: what was averaged, interpolated or dropped; empty for a plain match.
    """

    kept: npt.NDArray[np.intp] | None
    rows: npt.NDArray[np.float64]
    note: str


def pair_by_index(pattern_indexes: AnyArray, row_indexes: AnyArray, rows: npt.NDArray[np.float64]) -> Pairing | Problem:
    """Give each pattern its position by their common index, as the client does.

    An index below zero marks an empty slot among the patterns. Positions that share an index are averaged; a pattern
    between two positions takes the point between them; a pattern before the first or after the last is dropped. All of
    this is reported.

    Args:
        pattern_indexes: (n,) integers, one per pattern.
        row_indexes: (p,) integers, one per row.
        rows: (p, k) positions, or positions with more columns.

    Returns:
        The pairing, or the problem that nothing fits.
    """
    for path, array in (("indexes", pattern_indexes), ("probe_position_indexes", row_indexes)):
        if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
            return Problem(path=path, expected="(n,) integers, n >= 1", found=describe(array))
    if len(row_indexes) != len(rows):
        expected = f"{len(rows)} numbers, one per position"
        return Problem(path="probe_position_indexes", expected=expected, found=str(len(row_indexes)))
    wanted, known = pattern_indexes.astype(np.int64), row_indexes.astype(np.int64)
    anchors, inverse, shared = np.unique(known, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(inverse, weights=column) / shared for column in rows.T], axis=1)
    inside = (wanted >= 0) & (wanted >= anchors[0]) & (wanted <= anchors[-1])
    if not inside.any():
        found = f"patterns {wanted.min()} to {wanted.max()}, positions {anchors[0]} to {anchors[-1]}"
        return Problem(path="indexes", expected="indexes that patterns and positions share", found=found)
    wanted_inside = wanted[inside]
    paired = np.stack([np.interp(wanted_inside, anchors, column) for column in means.T], axis=1)
    counts = {
        "positions averaged that share an index": len(known) - len(anchors),
        "positions interpolated between neighbours": int(np.count_nonzero(~np.isin(wanted_inside, anchors))),
        "patterns dropped outside the positions' range": int(np.count_nonzero((wanted >= 0) & ~inside)),
        "empty slots dropped": int(np.count_nonzero(wanted < 0)),
    }
    note = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return Pairing(kept=None if inside.all() else np.flatnonzero(inside), rows=paired, note=note)


def as_bool_mask(mask: AnyArray | None) -> AnyArray | None:
    """Take an integer mask, not zero where bad, for a boolean one."""
    return mask.astype(np.bool_) if mask is not None and mask.dtype.kind in "iu" else mask


def own_metadata(text: str | None, stated: ScanMetadata, problems: list[Problem]) -> ScanMetadata:
    """Join what a file states in the client's terms with what ours keeps beside: photons and extras.

    Args:
        text: the JSON text of a file that is ours, None for another.
        stated: what the file states; it counts where both do.
        problems: grows by what is wrong with the text.
    """
    if text is None:
        return stated
    kept, found = metadata_from_text(text)
    problems.extend(found)
    return attrs.evolve(stated, name=kept.name, nphotons=kept.nphotons, extra=kept.extra)


def scan_of(parts: PtychodusParts, path: Path, request: ReadRequest) -> Scan:
    """Make a scan of the parts.

    Args:
        parts: what the files hold; problems and notes are added.
        path: the file, for messages.
        request: what the caller said.

    Returns:
        The scan, with the notes in its metadata.

    Raises:
        ScanFileError: with every problem there is.
    """

    def in_file_terms(problem: Problem) -> Problem:
        return parts.in_file_terms(with_check_as_fix(problem, request.detector_check))

    parts.bad_pixels = as_bool_mask(parts.bad_pixels)
    domain = _domain(parts, request)
    if not parts.problems:
        _check_detector(parts, domain, request)
    patterns = None if parts.patterns is None else as_patterns(parts.patterns)
    if parts.problems or pattern_shape(patterns) is None:
        # Otherwise the scan itself looks at every value, once.
        parts.problems.extend(map(in_file_terms, scan_problems(parts.as_scan_parts(patterns))))
        raise ScanFileError(str(path), parts.problems)
    try:
        scan = _scan(parts, cast("Patterns", patterns), domain, request)
    except ScanError as error:
        raise ScanFileError(str(path), [in_file_terms(problem) for problem in error.problems]) from None
    for key, note in parts.notes.items():
        _LOG.info("%s: %s: %s", path, key, note)
    return scan


def _check_detector(parts: PtychodusParts, domain: MeasurementDomain, request: ReadRequest) -> None:
    """Take out what is no measurement, with all that belongs to frames that are left out."""
    scale = None if request.pattern_map is None else request.pattern_map.full_scale
    checked = check_detector(parts.as_scan_parts(parts.patterns), domain, request.detector_check, full_scale=scale)
    parts.patterns, parts.bad_pixels = checked.parts.patterns, checked.parts.bad_pixels
    parts.positions_px, parts.scan_index = checked.parts.positions_px, checked.parts.scan_index
    parts.commanded_positions_px = checked.parts.commanded_positions_px
    parts.notes.update(checked.notes)
    parts.problems.extend(map(parts.in_file_terms, checked.problems))


def _domain(parts: PtychodusParts, request: ReadRequest) -> MeasurementDomain:
    """Settle the domain: the caller's word, or counts, which these formats hold, unless the numbers contradict."""
    patterns = parts.patterns
    if request.domain is not None:
        parts.notes["domain_evidence"] = "given by the caller"
        return request.domain
    if (
        patterns is not None
        and patterns.ndim == 3
        and patterns.size
        and holds_whole_squares(cast("Patterns", patterns))
    ):
        problem = Problem(
            path="measurement_domain",
            expected="photon counts, as the format has them",
            found="values whose squares are whole numbers, as amplitudes have",
            fix="say which with domain= or --domain",
        )
        parts.problems.append(problem)
    return MeasurementDomain.COUNTS


def _scan(parts: PtychodusParts, patterns: Patterns, domain: MeasurementDomain, request: ReadRequest) -> Scan:
    setting = ProbeSetting(
        size_px=patterns.shape[1],
        # A pass over all patterns, made only for a source that asks.
        photons=0.0 if request.probe is None else mean_photons(patterns, domain),
        pixel_m=parts.metadata.pixel_size_m,
        wavelength_m=parts.metadata.wavelength_m,
        distance_m=parts.metadata.distance_m,
    )
    probe = choose_probe(parts.probe, request, setting, parts.notes)
    if isinstance(probe, Problem):
        raise ScanError("scan", [probe])
    optional = {
        "object": parts.object,
        "bad_pixels": parts.bad_pixels,
        "scan_index": parts.scan_index,
        "commanded_positions_px": parts.commanded_positions_px,
    }
    return Scan(
        patterns=patterns,
        domain=domain,
        positions_px=cast("npt.NDArray[np.float64]", parts.positions_px),
        probe=probe,
        metadata=attrs.evolve(parts.metadata, extra={**parts.metadata.extra, **parts.notes}),
        **{key: array for key, array in optional.items() if array is not None},
    )
