"""Scans in NPZ files with the legacy keys: diff3d, xcoords, ycoords, probeGuess and their companions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.evidence import LAYOUT_KEY, PATTERNS_FIRST, Verdict, find_domain
from ptycho_adapters.files.metadata_json import KEY as METADATA_KEY
from ptycho_adapters.files.metadata_json import metadata_from_text, metadata_to_text
from ptycho_adapters.files.npz_members import member_keys, open_archive, read_member, read_text
from ptycho_adapters.files.npz_parts import ARRAY_KEYS, DOMAIN_KEY, NpzParts, assemble
from ptycho_core.errors import Problem, ScanError, ScanFileError, raise_if_any
from ptycho_core.scan import MeasurementDomain, Scan, ScanMetadata
from ptycho_core.scan_arrays import as_complex, as_patterns
from ptycho_core.scan_checks import AnyArray, scan_problems

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.scan_checks import ScanParts

_LOG = logging.getLogger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class _Members:
    """What could be read of a file, and what could not."""

    arrays: Mapping[str, AnyArray]
    texts: Mapping[str, str]
    keys: frozenset[str]
    ignored: tuple[str, ...]
    problems: tuple[Problem, ...]


def read_npz_scan(path: Path, domain: MeasurementDomain | None) -> Scan:
    """Read a scan from an NPZ file.

    Keys: `diff3d` or `diffraction` as (n, N, N) or (N, N, n); `xcoords`, `ycoords` (n,) in object pixels, column and
    row of the patch centre; `probeGuess` (N, N), (N, N, modes) or (modes, N, N). Optional: `objectGuess` (H, W),
    `bad_pixels` (N, N), `scan_index` (n,), `xcoords_start` and `ycoords_start` (n,), and the texts
    `measurement_domain`, `pattern_layout` ("nyx" or "yxn") and `_metadata` (JSON). Other keys are not read, and
    named in the metadata and the log.

    Args:
        path: the file.
        domain: what the patterns are; None means that the file tells.

    Returns:
        The scan; its metadata say how domain and layout were found where the file does not state them.

    Raises:
        ScanFileError: with every problem there is.
    """
    members = _read_members(path)
    found = assemble(members.arrays, members.keys, layout=members.texts.get(LAYOUT_KEY))
    problems = [*members.problems, *found.problems]
    problems += [_in_file_terms(problem, found) for problem in scan_problems(found.parts)]
    metadata = _metadata(members, problems)
    verdict = _verdict(members, found, domain, problems)
    raise_if_any(ScanFileError, str(path), problems)
    if members.ignored:
        _LOG.info("%s: ignored keys %s", path, ", ".join(members.ignored))
        found.notes["ignored_keys"] = ", ".join(members.ignored)
    if verdict.evidence:
        found.notes["domain_evidence"] = verdict.evidence
    metadata = attrs.evolve(metadata, extra={**metadata.extra, **found.notes})
    try:
        return _scan(found.parts, verdict.domain, metadata)
    except ScanError as error:
        raise ScanFileError(str(path), [_in_file_terms(problem, found) for problem in error.problems]) from None


def write_npz_scan(scan: Scan, path: Path) -> None:
    """Write a scan so that `read_npz_scan` gives back an equal one; atomic.

    Args:
        scan: what to write.
        path: where to.

    Raises:
        OSError: from the file system; an earlier file is then as it was.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "diff3d": scan.patterns,
        "xcoords": scan.positions_px[:, 1],
        "ycoords": scan.positions_px[:, 0],
        "probeGuess": scan.probe,
        "scan_index": scan.scan_index,
        DOMAIN_KEY: np.array(str(scan.domain)),
        LAYOUT_KEY: np.array(PATTERNS_FIRST),
        METADATA_KEY: np.array(metadata_to_text(scan.metadata, N=scan.N)),
    }
    if scan.object is not None:
        arrays["objectGuess"] = scan.object
    if scan.bad_pixels is not None:
        arrays["bad_pixels"] = scan.bad_pixels
    if scan.commanded_positions_px is not None:
        arrays["xcoords_start"] = scan.commanded_positions_px[:, 1]
        arrays["ycoords_start"] = scan.commanded_positions_px[:, 0]
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _read_members(path: Path) -> _Members:
    """Read every key that is known, and report the damaged ones together."""
    archive = open_archive(path)
    if isinstance(archive, Problem):
        raise ScanFileError(str(path), [archive])
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            raise ScanFileError(str(path), [infos])
        arrays = {key: read_member(archive, infos[key]) for key in ARRAY_KEYS if key in infos}
        texts = {key: read_text(archive, infos[key]) for key in (DOMAIN_KEY, LAYOUT_KEY, METADATA_KEY) if key in infos}
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


def _verdict(members: _Members, found: NpzParts, domain: MeasurementDomain | None, problems: list[Problem]) -> Verdict:
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
    elif found.parts.patterns is not None and not any(problem.path == found.key_of["patterns"] for problem in problems):
        patterns, probe = as_patterns(found.parts.patterns), found.parts.probe
        guess = find_domain(
            patterns,
            None if probe is None else as_complex(probe),
            has_bad_pixels=found.parts.bad_pixels is not None,
        )
        if isinstance(guess, Verdict):
            return guess
        problems.append(guess)
    # The file is refused already; this only completes the reading.
    return Verdict(domain=MeasurementDomain.COUNTS, evidence="")


def _in_file_terms(problem: Problem, found: NpzParts) -> Problem:
    return attrs.evolve(problem, path=found.key_of.get(problem.path, problem.path))


def _scan(parts: ScanParts, domain: MeasurementDomain, metadata: ScanMetadata) -> Scan:
    arrays = attrs.asdict(parts, recurse=False)
    return Scan(domain=domain, metadata=metadata, **{key: array for key, array in arrays.items() if array is not None})
