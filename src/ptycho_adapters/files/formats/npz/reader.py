"""Scans in NPZ files with the legacy keys: diff3d, xcoords, ycoords, probeGuess and their companions."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.evidence.detector import check_detector, full_scale_of, with_check_as_fix
from ptycho_adapters.files.evidence.domain import LAYOUT_KEY, Verdict, find_domain
from ptycho_adapters.files.formats.metadata_json import KEY as METADATA_KEY
from ptycho_adapters.files.formats.metadata_json import metadata_from_text
from ptycho_adapters.files.formats.npz.parts import (
    ARRAY_KEYS,
    COMMANDED_KEY,
    COMMANDED_UNKNOWN,
    DOMAIN_KEY,
    PATTERN_KEYS,
    NpzParts,
    assemble,
)
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_member, read_text
from ptycho_adapters.files.pattern_map import PatternMap
from ptycho_adapters.files.reading import (
    ArrayFacts,
    Evidence,
    ProbeSetting,
    ReadRequest,
    choose_probe,
    mean_photons,
    refuse_product,
)
from ptycho_core.any_array import AnyArray
from ptycho_core.errors import Problem, ScanError, ScanFileError, raise_if_any
from ptycho_core.measurement.arrays import as_complex, as_patterns
from ptycho_core.measurement.checks import PATTERN_DTYPES, pattern_shape, scan_problems
from ptycho_core.measurement.plausibility import position_problems
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.in_file import InFile
    from ptycho_core.measurement.checks import ScanParts

_LOG = logging.getLogger(__name__)
_TEXT_KEYS = (DOMAIN_KEY, LAYOUT_KEY, METADATA_KEY, COMMANDED_KEY)


@attrs.frozen(kw_only=True, eq=False)
class _Members:
    """What could be read of a file, and what could not."""

    arrays: Mapping[str, AnyArray]
    texts: Mapping[str, str]
    keys: frozenset[str]
    ignored: tuple[str, ...]
    problems: tuple[Problem, ...]


def npz_patterns(evidence: Evidence) -> ArrayFacts | None:
    """Give shape (n, N, N) and dtype of the patterns in an NPZ scan; the axis is found as far as the keys tell it."""
    facts = next((evidence.arrays[key] for key in PATTERN_KEYS if key in evidence.arrays), None)
    if facts is None:
        return None
    shape = facts.shape[:3] if len(facts.shape) == 4 and facts.shape[3] == 1 else facts.shape
    if len(shape) != 3:
        return facts
    coordinates = next((evidence.arrays[key] for key in ("xcoords", "xcoords_start") if key in evidence.arrays), None)
    n_positions = None if coordinates is None else math.prod(coordinates.shape)
    rows, columns, last = shape
    if rows == columns != last and n_positions in (None, last):
        shape = (last, rows, columns)
    return ArrayFacts(shape=shape, dtype=facts.dtype)


def read_npz_scan(path: Path, request: ReadRequest) -> Scan:
    """Read a scan from an NPZ file.

    Keys: `diff3d` or `diffraction` as (n, N, N) or (N, N, n); `xcoords`, `ycoords` (n,) in object pixels, column and
    row of the patch centre; `probeGuess` (N, N), (N, N, modes) or (modes, N, N). Optional: `objectGuess` (H, W),
    `bad_pixels` (N, N), `scan_index` (n,), `xcoords_start` and `ycoords_start` (n,), and the texts
    `measurement_domain`, `pattern_layout` ("nyx" or "yxn") and `_metadata` (JSON). Other keys are not read, and
    named in the metadata and the log.

    Args:
        path: the file.
        request: what the patterns are, where the file is not to tell, and where the probe comes from, where it is not
            to be the file's.

    Returns:
        The scan; its metadata say how domain and layout were found where the file does not state them.

    Raises:
        ScanFileError: with every problem there is.
    """
    refuse_product(path, request, "an NPZ scan")
    members = _read_members(path, request.pattern_map)
    found = assemble(members.arrays, members.keys, layout=members.texts.get(LAYOUT_KEY))
    if members.texts.get(COMMANDED_KEY) == COMMANDED_UNKNOWN:
        found.parts = attrs.evolve(found.parts, commanded_positions_px=None)
    problems = [*members.problems, *found.problems]
    if request.probe is not None:
        problems = [problem for problem in problems if problem.path != found.key_of["probe"]]
    verdict = _verdict(members, found, request.domain, problems)
    problems += _check_detector(found, members, request, verdict)
    problems += [_in_file_terms(problem, found, request) for problem in scan_problems(found.parts)]
    if METADATA_KEY not in members.texts:
        problems += [_in_file_terms(problem, found, request) for problem in _position_problems(found)]
    metadata = _metadata(members, problems)
    if isinstance(verdict, Problem):
        # What is wrong with the numbers themselves comes first.
        problems += [] if any(problem.path == found.key_of["patterns"] for problem in problems) else [verdict]
        raise ScanFileError(str(path), problems)
    raise_if_any(ScanFileError, str(path), problems)
    _note(found, members, verdict, path)
    if request.probe is not None:
        found.parts = _with_probe(found, request, verdict.domain, metadata)
    metadata = attrs.evolve(metadata, extra={**metadata.extra, **found.notes})
    try:
        return _scan(found.parts, verdict.domain, metadata)
    except ScanError as error:
        problems = [_in_file_terms(problem, found, request) for problem in error.problems]
        raise ScanFileError(str(path), problems) from None


def _check_detector(
    found: NpzParts, members: _Members, request: ReadRequest, verdict: Verdict | Problem
) -> list[Problem]:
    """Take out what is no measurement; give what keeps that from being done."""
    stored = members.arrays.get(found.key_of["patterns"])
    if isinstance(verdict, Problem) or stored is None:
        return []
    onto = request.pattern_map
    scale = onto.full_scale if isinstance(onto, PatternMap) else full_scale_of(stored.dtype)
    checked = check_detector(found.parts, verdict.domain, request.detector_check, full_scale=scale)
    found.parts = checked.parts
    found.notes.update(checked.notes)
    return [_in_file_terms(problem, found, request) for problem in checked.problems]


def _position_problems(found: NpzParts) -> tuple[Problem, ...]:
    """Say why the positions of others' files cannot be in pixels; what they are not, the checks of a scan say."""
    positions, known = found.parts.positions_px, pattern_shape(found.parts.patterns)
    if positions is None or known is None or positions.dtype != np.float64 or not np.isfinite(positions).all():
        return ()
    return position_problems(cast("npt.NDArray[np.float64]", positions), size_px=known[1])


def _note(found: NpzParts, members: _Members, verdict: Verdict, path: Path) -> None:
    """Note what was not read, and how the domain was found."""
    if members.ignored:
        _LOG.info("%s: ignored keys %s", path, ", ".join(members.ignored))
        found.notes["ignored_keys"] = ", ".join(members.ignored)
    if verdict.evidence:
        found.notes["domain_evidence"] = verdict.evidence


def _read_members(path: Path, pattern_map: PatternMap | InFile | None) -> _Members:
    """Read every key that is known, and report the damaged ones together."""
    archive = open_archive(path)
    if isinstance(archive, Problem):
        raise ScanFileError(str(path), [archive])
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            raise ScanFileError(str(path), [infos])
        patterns = next((key for key in PATTERN_KEYS if key in infos), None)
        arrays = {
            key: read_member(archive, infos[key], pattern_map if key == patterns else None)
            for key in ARRAY_KEYS
            if key in infos
        }
        texts = {
            key: read_text(archive, infos[key])
            for key in (DOMAIN_KEY, LAYOUT_KEY, METADATA_KEY, COMMANDED_KEY)
            if key in infos
        }
    read = {**arrays, **texts}
    return _Members(
        arrays={key: array for key, array in arrays.items() if not isinstance(array, Problem)},
        texts={key: text for key, text in texts.items() if not isinstance(text, Problem)},
        keys=frozenset(infos),
        ignored=tuple(sorted(infos.keys() - read.keys())),
        problems=tuple(value for value in read.values() if isinstance(value, Problem)),
    )


def _metadata(members: _Members, problems: list[Problem]) -> ScanMetadata:
    if METADATA_KEY not in members.texts:
        return ScanMetadata()
    metadata, found = metadata_from_text(members.texts[METADATA_KEY])
    problems.extend(found)
    return metadata


def _verdict(
    members: _Members, found: NpzParts, domain: MeasurementDomain | None, problems: list[Problem]
) -> Verdict | Problem:
    """Settle the domain: the caller's word, then the file's, then what the numbers say."""
    stated = members.texts.get(DOMAIN_KEY)
    if stated is not None and stated not in tuple(MeasurementDomain):
        expected = " or ".join(MeasurementDomain)
        problems.append(Problem(path=DOMAIN_KEY, expected=expected, found=repr(stated)))
    elif domain is not None:
        evidence = "given by the caller"
        return Verdict(domain=domain, evidence=evidence if stated is None else f"{evidence}; the file says {stated}")
    elif stated is not None:
        return Verdict(domain=MeasurementDomain(stated), evidence="")
    elif pattern_shape(found.parts.patterns) is not None:
        patterns, probe = as_patterns(cast("AnyArray", found.parts.patterns)), found.parts.probe
        if patterns.size and patterns.dtype in PATTERN_DTYPES:
            return find_domain(
                patterns,
                None if probe is None else as_complex(probe),
                has_bad_pixels=found.parts.bad_pixels is not None,
            )
    # The file is refused already; this only completes the reading.
    return Verdict(domain=MeasurementDomain.COUNTS, evidence="")


def _with_probe(found: NpzParts, request: ReadRequest, domain: MeasurementDomain, metadata: ScanMetadata) -> ScanParts:
    """Put the caller's probe in the place of the file's."""
    if found.parts.patterns is None:
        return found.parts
    patterns = as_patterns(found.parts.patterns)
    setting = ProbeSetting(
        size_px=patterns.shape[1],
        photons=mean_photons(patterns, domain),
        pixel_m=metadata.pixel_size_m,
        wavelength_m=metadata.wavelength_m,
        distance_m=metadata.distance_m,
    )
    probe = choose_probe(found.parts.probe, request, setting, found.notes)
    return found.parts if isinstance(probe, Problem) else attrs.evolve(found.parts, probe=probe)


def _in_file_terms(problem: Problem, found: NpzParts, request: ReadRequest) -> Problem:
    named = attrs.evolve(problem, path=found.key_of.get(problem.path, problem.path))
    return with_check_as_fix(named, request.detector_check)


def _scan(parts: ScanParts, domain: MeasurementDomain, metadata: ScanMetadata) -> Scan:
    arrays = attrs.asdict(parts, recurse=False)
    return Scan(domain=domain, metadata=metadata, **{key: array for key, array in arrays.items() if array is not None})
