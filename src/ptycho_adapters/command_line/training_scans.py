"""The scans of a training: the file that is named, and those of the folders that are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line.scan_input import existing, read_measured
from ptycho_adapters.files import scan_files
from ptycho_adapters.scan_facts import read_scan_facts
from ptycho_core.errors import Problem, ScanFileError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ptycho_adapters.command_line.run_request import RunRequest
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan


@attrs.frozen(kw_only=True)
class TrainingFiles:
    """Scan files of a training.

    Attributes:
        train: to train on, the one that was named first.
        validation: to validate on; None holds out a region of each of the others.
    """

    train: tuple[Path, ...]
    validation: Path | None

    @property
    def names(self) -> list[str]:
        """What messages call the scans, that to validate on last."""
        return list(map(str, self.train if self.validation is None else (*self.train, self.validation)))


def training_files(request: RunRequest, payload: TrainingPayload) -> TrainingFiles:
    """Find the scan files of a training and look at their headers; no pattern is read.

    Args:
        request: names the scan to train on and, perhaps, one to validate on.
        payload: names the folders with further scans to train on.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: a folder holds no scan, or a further scan cannot be read or is not of the size that the run is
            for; all of them are named.
    """
    source, held_out = request.required_path("train_data_file"), request.path("test_data_file")
    named = [source] if held_out is None else [source, existing(held_out, "Test data")]
    further = _further(payload.pt_training_config.training_directories, named)
    problems = [problem for path in further for problem in _misfits(path, payload.pt_data_config.N)]
    raise_if_any(ScanFileError, "these scans cannot be trained on together", problems)
    return TrainingFiles(train=(source, *further), validation=held_out)


def _further(folders: Iterable[Path], named: Iterable[Path]) -> list[Path]:
    """Return the scan files of some folders, each once, without those that were named by themselves."""
    known = {path.resolve() for path in named}
    further: list[Path] = []
    problems: list[Problem] = []
    for folder in folders:
        try:
            files = scan_files(folder)
        except ScanFileError as error:
            problems += [attrs.evolve(problem, path=str(folder)) for problem in error.problems]
            continue
        for path in files:
            if path.resolve() not in known:
                known.add(path.resolve())
                further.append(path)
    raise_if_any(ScanFileError, "training directories", problems)
    return further


def _misfits(path: Path, size: int) -> list[Problem]:
    try:
        found = read_scan_facts(path).N
    except ScanFileError as error:
        return [attrs.evolve(problem, path=f"{path}: {problem.path}") for problem in error.problems]
    if found == size:
        return []
    return [Problem(path=f"{path}: patterns", expected=f"{size} px, as the first scan has", found=f"{found} px")]


def read_training_scans(files: TrainingFiles, request: RunRequest, payload: TrainingPayload) -> list[Scan]:
    """Read the scans to train on; a scan that says no name is called after its file.

    Args:
        files: which they are.
        request: how they are to be read; a companion file belongs to the first one.
        payload: says the size of the patterns.

    Raises:
        ScanFileError: a file is no scan, or its patterns are not of the size that the run is for.
    """
    requests = [request, *[request.of_other_scan()] * (len(files.train) - 1)]
    return [_named(read_measured(path, each, payload), path) for path, each in zip(files.train, requests, strict=True)]


def read_validation_scan(files: TrainingFiles, request: RunRequest, payload: TrainingPayload) -> Scan | None:
    """Read the scan to validate on, if there is one.

    Raises:
        ScanFileError: it is no scan, or its patterns are not of the size that the run is for.
    """
    return None if files.validation is None else read_measured(files.validation, request.of_other_scan(), payload)


def _named(scan: Scan, path: Path) -> Scan:
    if scan.metadata.name:
        return scan
    return attrs.evolve(scan, metadata=attrs.evolve(scan.metadata, name=path.stem))
