"""One of many scans: its plan, its work, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.batch import Row, State
from ptycho_adapters.command_line.earlier_results import made_from, summary_in
from ptycho_adapters.command_line.inference import Models, plan_for
from ptycho_adapters.command_line.run_request import RunRequest
from ptycho_adapters.stages import stage
from ptycho_core.config.payload import InferencePayload
from ptycho_core.config.table import INFERENCE
from ptycho_core.errors import PtychoError

_OF_ONE_SCAN = frozenset({"test_data_file", "output_dir"})


@attrs.frozen(kw_only=True, eq=False)
class ScanTask:
    """One scan that is to be reconstructed.

    Attributes:
        request: what was asked for, with its file and its folder.
        folder: for its result.
        payload: its settings.
        made_from: all that the result will hang on; empty where nobody asks.
        reference: what it is to be compared with.
    """

    request: RunRequest
    folder: Path
    payload: InferencePayload
    made_from: Mapping[str, object] = attrs.field(factory=dict)
    reference: Path | None = None

    @property
    def source(self) -> Path:
        """The file of the scan."""
        return self.request.required_path("test_data_file")


@attrs.frozen(kw_only=True, eq=False)
class Verb:
    """A command that reconstructs scans. Its functions are those of modules, so that another process finds them.

    Attributes:
        name: of the command.
        defaults: its own settings under a request.
        work: reconstructs one scan, writes the result and gives what there is to say about it.
    """

    name: str
    defaults: Callable[[RunRequest], Mapping[str, object]]
    work: Callable[[ScanTask, Models], str]


def of_scan(request: RunRequest, source: Path, folder: Path) -> RunRequest:
    """Return the same request for one scan.

    Args:
        request: what the command was told.
        source: file of the scan.
        folder: for its result.
    """
    said = {name: value for name, value in request.cli.items() if INFERENCE.key(name) not in _OF_ONE_SCAN}
    where = {} if request.path("output_dir") is None else {"output_dir": folder}
    return attrs.evolve(request, cli={**said, "test_data_file": source, **where})


def task_of(verb: Verb, typed: Mapping[str, object], request: RunRequest) -> ScanTask:
    """Plan one scan; nothing is written.

    Args:
        verb: the command.
        typed: its command line.
        request: what was asked for, of this scan.

    Raises:
        ScanFileError: the file is no scan.
        ArchiveError: the model cannot be read.
        ConfigError: settings cannot be used.
    """
    folder = request.required_path("output_dir")
    payload = plan_for(request, folder, verb.defaults(request))
    made = made_from(verb.name, typed, request, payload)
    return ScanTask(request=request, folder=folder, payload=payload, made_from=made)


def worked(verb: Verb, task: ScanTask, models: Models) -> Row:
    """Reconstruct a scan and say what became of it, whatever that is."""
    clock = time.perf_counter()
    try:
        with stage("scan", file=str(task.source)):
            verb.work(task, models)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other scans have their turn
        return failed(task.source, task.folder, error, seconds=time.perf_counter() - clock)
    return there(task.source, task.folder, State.DONE, seconds=time.perf_counter() - clock)


def failed(source: Path, folder: Path, error: Exception | str, *, seconds: float = 0.0) -> Row:
    """Say that a scan failed, and return its row."""
    kind = f"{type(error).__name__}: " if isinstance(error, Exception) and not isinstance(error, PtychoError) else ""
    said = " ".join(f"{kind}{error}".split())
    console.note(f"{source} failed: {said}")
    return Row(source=source, folder=folder, state=State.FAILED, figures={}, seconds=seconds, error=said)


def there(source: Path, folder: Path, state: State, *, seconds: float = 0.0) -> Row:
    """Return the row of a scan whose result is there."""
    known = summary_in(folder).get("figures")
    figures = known if isinstance(known, dict) else {}
    return Row(source=source, folder=folder, state=state, figures=figures, seconds=seconds)
