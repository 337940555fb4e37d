"""Reading the scan of a command and saying where its words and its numbers disagree."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.usage import kebab
from ptycho_adapters.command_line.view_options import as_seen
from ptycho_adapters.files.in_file import PatternsIn, place_of
from ptycho_adapters.files.reading import ReadRequest
from ptycho_adapters.files.scans import read_requested
from ptycho_adapters.files.stacks.folder import frame_names
from ptycho_adapters.stages import stage
from ptycho_core.errors import Problem, ProblemsError, ScanFileError
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.inspection import inspect_scan
from ptycho_core.measurement.suspicions import findings
from ptycho_core.memory import in_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ptycho_adapters.command_line.run_request import RunRequest
    from ptycho_core.config.payload import InferencePayload, TrainingPayload
    from ptycho_core.measurement.findings import Finding
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_LARGE_BYTES = 1 << 28  # whose reading takes long enough to be announced
_ALIKE = 2.0  # an absorbing object and a declared dose differ by less than this


def existing(path: Path, what: str) -> Path:
    """Return a path to a file that is there, or to a folder of frames.

    Raises:
        FileNotFoundError: it is not.
        IsADirectoryError: it is another folder.
    """
    if path.is_dir() and not frame_names(child.name for child in path.iterdir()):
        message = f"{what} is a folder, not a file: {path}"
        raise IsADirectoryError(message)
    if not path.exists():
        message = f"{what} file not found: {path}"
        raise FileNotFoundError(message)
    return path


@contextmanager
def naming(*paths: Path | str) -> Iterator[None]:
    """Put the files that a run is about before what is wrong with the run.

    Raises:
        ProblemsError: as in the block, of the same kind.
    """
    try:
        yield
    except ProblemsError as error:
        first, further = str(paths[0]), len(paths) - 1
        if first in str(error):
            raise
        others = f" and {further} more" if further else ""
        raise type(error)(f"{first}{others}: {error.subject}", error.problems) from None


def read_measured(path: Path, request: RunRequest, payload: TrainingPayload | InferencePayload) -> Scan:
    """Read a scan, and warn where what is said about it does not fit what it holds.

    Raises:
        ScanFileError: the file is no scan, or its patterns are not of the size that the run is for.
    """
    asked = ReadRequest(
        domain=request.domain,
        product=request.product,
        probe=request.probe,
        detector_check=request.detector_check,
        stated=request.stated,
        pattern_map=place_of(request.patterns_in),
    )
    if payload.execution_config.enable_progress_bar and path.is_file() and path.stat().st_size >= _LARGE_BYTES:
        console.note(f"reading {path}, {in_units(path.stat().st_size)}")
    with stage("reading", file=str(path)) as course:
        scan = read_requested(path, asked, request.memory_map)
        if scan.memory_mapped and request.patterns_in is PatternsIn.AUTO and request.memory_map is None:
            console.note(
                f"{path}: {in_units(scan.patterns.nbytes)} of patterns stay in the file and are read batch by batch"
            )
        scan = as_seen(scan, request.view, path)
        course.count(patterns=scan.n_patterns, size_px=scan.N, megabytes=scan.patterns.nbytes / 1e6)
    size, source = payload.pt_data_config.N, payload.provenance["N"]
    if size != scan.N:
        expected = f"{size} px, as {'--N' if source.chosen else f'the {source}'} says"
        raise ScanFileError(str(path), [Problem(path="patterns", expected=expected, found=f"{scan.N} px")])
    for text in disagreements(scan, stated_nphotons(payload)):
        console.warn(f"{path}: {text}")
    return scan


def say_findings(path: Path, scan: Scan) -> tuple[Finding, ...]:
    """Warn of everything that is suspicious about a scan, and return it."""
    with stage("inspection") as course:
        found = findings(inspect_scan(scan))
        course.count(findings=len(found))
    warn_of(found, path)
    return found


def apart_from(found: Iterable[Finding], result: Reconstruction) -> Reconstruction:
    """Return a result without the findings that were told when its scan was inspected.

    Args:
        found: from `say_findings`.
        result: which holds those of the scan's reading again.
    """
    told = frozenset(found)
    return attrs.evolve(result, findings=tuple(each for each in result.findings if each not in told))


def warn_of(found: Iterable[Finding], path: Path | str) -> None:
    """Warn of findings, one line each.

    Args:
        found: what they are.
        path: the scan that they are about.
    """
    for finding in found:
        console.warn(f"{path}: {finding.text}")


def stated_nphotons(payload: TrainingPayload | InferencePayload) -> float | None:
    """Return the photons per frame that somebody chose; None where they were read from a file or are a default."""
    return payload.pt_data_config.nphotons if payload.provenance["nphotons"].chosen else None


def disagreements(scan: Scan, nphotons: float | None) -> Iterator[str]:
    """Yield what is said about a scan and does not fit what it holds.

    Args:
        scan: the measured data with their metadata.
        nphotons: photons per frame that the user stated; None if not.
    """
    evidence = scan.metadata.extra.get("domain_evidence", "")
    _, said, word = evidence.partition("the file says ")
    if said and word != scan.domain:
        yield f"read as {scan.domain} as --domain says, but the file says {word}"
    if nphotons is None:
        return
    flux = sum(float(scan.counts(some).sum(dtype=np.float64)) for some in frame_slices(scan.patterns)) / scan.n_patterns
    if not 1 / _ALIKE <= nphotons / flux <= _ALIKE:
        name = kebab("nphotons")
        yield f"{name} is {nphotons:.3g}, but the patterns hold {flux:.3g} photons on average; the patterns count"
