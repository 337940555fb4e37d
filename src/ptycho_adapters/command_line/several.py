"""Many scans under one command: planned before any work, done here or over a cluster, in one table."""

from __future__ import annotations

import argparse
import os
from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_adapters.archive_facts import find_model
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.batch import Row, State, table, write_tables
from ptycho_adapters.command_line.cluster import over_cluster
from ptycho_adapters.command_line.earlier_results import is_there
from ptycho_adapters.command_line.flags import dest_of
from ptycho_adapters.command_line.inference import Models, silent_on_empty_archives
from ptycho_adapters.command_line.one_scan import ScanTask, failed, of_scan, task_of, there, worked
from ptycho_adapters.command_line.parts import SLURM, Part
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.scan_list import is_one_scan
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.crew import started_crew
from ptycho_core.config.table import TRAINING
from ptycho_core.errors import PtychoError, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ptycho_adapters.command_line.one_scan import Verb
    from ptycho_adapters.command_line.run_request import RunRequest

_SCHEDULER = "scheduler"
OWN_FLAGS: Mapping[str, None] = MappingProxyType({_SCHEDULER: None})
"""Settings whose flags `add_several_options` gives a parser."""


class SomeFailedError(PtychoError):
    """Some of several scans could not be reconstructed."""


def add_several_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser what only several scans have."""
    options = parser.add_argument_group("several scans")
    options.add_argument("--again", action="store_true", help="also those whose result is there already")
    options.add_argument(
        "--part",
        metavar="K/OF",
        help=f"only every OF-th scan from the K-th on, such as 2/8, or '{SLURM}': what this task of an array job does",
    )
    options.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        action=_Scheduler,
        help="spread them over the Dask cluster of this scheduler, such as tcp://node:8786, or of its scheduler file",
    )


class _Scheduler(argparse.Action):
    """The address of a cluster, or a word for learning rates, which is the setting's and is judged with the others."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep what was said."""
        del parser, option_string
        of_setting = values in TRAINING[_SCHEDULER].choices
        setattr(namespace, dest_of(_SCHEDULER) if of_setting else self.dest, values)


def are_several(typed: Mapping[str, object], names: Sequence[str]) -> bool:
    """Tell whether several scans are named.

    Raises:
        UsageError: a single one is, beside a flag for several.
    """
    if not is_one_scan(names):
        return True
    flags = [f"--{name}" for name in ("part", _SCHEDULER) if typed.get(name) is not None]
    if flags:
        raise UsageError(f"{flags[0]}: expected several scans, or a pattern in quotes, found the single {names[0]}")
    return False


def refuse_to_show_several(names: Sequence[str]) -> None:
    """Refuse `--print-config` of several scans.

    Raises:
        UsageError: there are several.
    """
    if names and not is_one_scan(names):
        raise UsageError("--print-config: expected one scan at most, whose settings they are")


def reconstruct_all(
    verb: Verb, typed: Mapping[str, object], request: RunRequest, folders: Mapping[Path, Path], folder: Path
) -> None:
    """Reconstruct many scans, whatever becomes of some.

    Args:
        verb: the command.
        typed: its command line.
        request: what was asked for, of all.
        folders: the scans, each with the folder of its result.
        folder: for the table of all.

    Raises:
        SomeFailedError: some failed.
        UsageError: part or scheduler cannot be understood, or settings cannot be used.
        ArchiveError: the model cannot be read.
        DependencyError: a package for the cluster is missing.
    """
    part = None if typed.get("part") is None else Part.read(str(typed["part"]), os.environ)
    mine = dict(folders.items() if part is None else part.taken(list(folders.items())))
    named = request.path("model_path")
    if named is not None:
        find_model(named)
    planned = _planned(verb, typed, request, mine)
    _refuse_shared_work(planned)
    rows: dict[Path, Row] = {}
    files = [] if planned else write_tables([], folder, verb.name, part)
    with profile_of(request):
        for row in _rows(verb, typed, request, planned, mine):
            rows[row.source] = row
            # After each, so that what is known stays if the next one ends it all.
            files = write_tables([rows[source] for source in planned if source in rows], folder, verb.name, part)
    ordered = [rows[source] for source in planned]
    console.tell("\n".join([table(ordered), *(f"wrote {path}" for path in files)]))
    bad = [str(row.source) for row in ordered if row.state is State.FAILED]
    if bad:
        raise SomeFailedError(f"{len(bad)} of {len(ordered)} scans: {', '.join(bad)}")


def _refuse_shared_work(planned: Mapping[Path, ScanTask | ScanFileError]) -> None:
    devices = {
        task.payload.execution_config.devices for task in planned.values() if not isinstance(task, ScanFileError)
    }
    if devices - {1} or started_crew().count > 1:
        raise UsageError(
            "--devices: expected 1 for several scans, of which each may fail by itself; share out one at a time"
        )


def _planned(
    verb: Verb, typed: Mapping[str, object], request: RunRequest, folders: Mapping[Path, Path]
) -> dict[Path, ScanTask | ScanFileError]:
    """Plan each, so that what cannot be used is found before the first begins; a file that is no scan is one row."""
    planned: dict[Path, ScanTask | ScanFileError] = {}
    with silent_on_empty_archives():
        for source, own in folders.items():
            try:
                planned[source] = task_of(verb, typed, of_scan(request, source, own))
            except ScanFileError as error:
                planned[source] = error
    return planned


def _rows(
    verb: Verb,
    typed: Mapping[str, object],
    request: RunRequest,
    planned: Mapping[Path, ScanTask | ScanFileError],
    folders: Mapping[Path, Path],
) -> Iterator[Row]:
    """Yield what became of each scan, as it becomes known."""
    if typed.get(_SCHEDULER) is not None:
        left = []
        for source, task in planned.items():
            row = _without_work(source, folders[source], task, again=bool(typed.get("again")))
            if row is not None:
                yield row
            elif isinstance(task, ScanTask):
                left.append(task)
        yield from over_cluster(verb, typed, request, left)
        return
    models = Models()
    for number, (source, task) in enumerate(planned.items(), start=1):
        if request.said("enable_progress_bar") is not False:
            console.note(f"scan {number} of {len(planned)}: {source}")
        row = _without_work(source, folders[source], task, again=bool(typed.get("again")))
        if row is not None:
            yield row
        elif isinstance(task, ScanTask):
            yield worked(verb, task, models)


def _without_work(source: Path, folder: Path, task: ScanTask | ScanFileError, *, again: bool) -> Row | None:
    """Return the row of a scan that is none, or whose result is there."""
    if isinstance(task, ScanFileError):
        return failed(source, folder, task)
    if again or not is_there(folder, task.made_from):
        return None
    console.note(f"{source}: {folder} holds its result under the same settings already; --again redoes it")
    return there(source, folder, State.SKIPPED)
