"""Many scans over a Dask cluster: a task for each, whose result files, row and words come back."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.batch import Row
from ptycho_adapters.command_line.inference import Models, silent_on_empty_archives
from ptycho_adapters.command_line.links import links_of
from ptycho_adapters.command_line.logs import Logged, collected, replay, wanted_level
from ptycho_adapters.command_line.one_scan import Verb, failed, of_scan, task_of, worked
from ptycho_adapters.command_line.run_request import RunRequest
from ptycho_adapters.command_line.usage import UsageError
from ptycho_core.config.table import INFERENCE
from ptycho_core.errors import DependencyError
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from distributed import Client, Future

    from ptycho_adapters.command_line.one_scan import ScanTask

_CONNECT_S, _LOOK_S = 20, 10.0
_FOR_ALL = frozenset({"scans", "part", "scheduler", "again", "log_file", "log_level", "profile"})
# Streams, warnings, the working folder and the legacy parameters belong to a process, not to one of its threads.
_ONE_AT_A_TIME = threading.Lock()


@attrs.frozen(kw_only=True)
class Job:
    """One scan, as it travels to a worker.

    Attributes:
        verb: the command.
        typed: its command line.
        source: file of the scan, as it was named.
        folder: for its result.
        here: folder that relative paths start from.
        run: tells this command line from every other one; a worker keeps its model for the next scan.
        version: of the package.
        level: of what is logged; None where nobody reads it.
    """

    verb: Verb
    typed: Mapping[str, object]
    source: Path
    folder: Path
    here: Path
    run: str
    version: str
    level: int | None


@attrs.frozen(kw_only=True)
class Came:
    """What comes back from a worker.

    Attributes:
        row: what became of the scan.
        said: text and level, in order.
        logged: what went to its log.
        process: that did it.
    """

    row: Row
    said: tuple[tuple[str, int], ...]
    logged: tuple[Logged, ...]
    process: tuple[str, int]


def over_cluster(
    verb: Verb, typed: Mapping[str, object], request: RunRequest, tasks: Sequence[ScanTask]
) -> Iterator[Row]:
    """Yield what became of each scan as the workers of `--scheduler` are done with it.

    A worker that is lost takes nothing along: its scan goes to another one, until as many as Dask allows were lost.

    Args:
        verb: the command.
        typed: its command line.
        request: what was asked for, of all.
        tasks: the scans, planned.

    Raises:
        DependencyError: Dask is not installed.
        UsageError: no scheduler answers, or the run is to be profiled.
    """
    if request.profile:
        raise UsageError("--profile: expected no --scheduler beside it: it watches this process alone")
    run, level = uuid.uuid4().hex, wanted_level()
    sent = {name: value for name, value in typed.items() if name not in _FOR_ALL}
    with _client(str(typed["scheduler"]), verb.name) as client:
        shown = request.said("enable_progress_bar") is not False
        if shown:
            _introduce(client)
        jobs = [
            Job(
                verb=verb,
                typed=sent,
                source=task.source,
                folder=task.folder,
                here=Path.cwd(),
                run=run,
                version=VERSION,
                level=level,
            )
            for task in tasks
        ]
        futures = {client.submit(on_worker, job, pure=False): job for job in jobs}
        try:
            yield from _as_they_come(client, futures, shown=shown)
        finally:
            client.cancel([future for future in futures if not future.done()])


def on_worker(job: Job) -> Came:
    """Reconstruct one scan in this process, one at a time, as if the command had been typed here."""
    said: list[tuple[str, int]] = []
    with (
        _ONE_AT_A_TIME,
        console.heard_by(lambda text, level: said.append((text, level))),
        console.warnings_on_one_line(),
        collected(job.level) as logged,
    ):
        row = _row(job)
    return Came(row=row, said=tuple(said), logged=tuple(logged), process=_process())


def _row(job: Job) -> Row:
    if job.version != VERSION:
        found = f"this worker, {_name()}, has ptycho-core {VERSION}, the command has {job.version}: install the same"
        return failed(job.source, job.folder, found)
    try:
        with _in_folder(job.here), links_of(job.typed):
            with console.heard_by(lambda _text, _level: None), silent_on_empty_archives():
                # Whatever there is to say about the command line was said where it was typed.
                request = RunRequest.read(job.typed, INFERENCE, required=frozenset({"output_dir"}))
                task = task_of(job.verb, job.typed, of_scan(request, job.source, job.folder))
            return worked(job.verb, task, _models_of(job.run))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other scans have their turn
        where = f"on worker {_name()}, which has to see the files under the same paths"
        return failed(job.source, job.folder, f"{where}: {type(error).__name__}: {error}")


def _in_folder(folder: Path) -> AbstractContextManager[None]:
    """Stand in a folder; where this process does so already, its other threads are left alone."""
    return contextlib.nullcontext() if Path.cwd() == folder else contextlib.chdir(folder)


@lru_cache(maxsize=1)
def _models_of(run: str) -> Models:
    """Models that this process has loaded for a command line; those of the one before are let go."""
    del run
    return Models()


def _process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@contextlib.contextmanager
def _client(address: str, command: str) -> Iterator[Client]:
    try:
        from distributed import Client  # noqa: PLC0415 - an optional package
    except ModuleNotFoundError as error:
        message = f"--scheduler needs Dask, and {error.name} is not installed: pip install 'ptycho-core[dask]'"
        raise DependencyError(message) from None
    # A scheduler that was started for a batch system writes its address into a file.
    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        client = Client(**where, timeout=_CONNECT_S, set_as_default=False, name=f"ptycho-{command}")
    except (OSError, ValueError, TypeError) as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"--scheduler: expected the address of a Dask scheduler, as tcp://node:8786, or its file, found {address}: "
            f"{found}"
        ) from None
    # A lost connection is said in the rows of the scans that it cost.
    log = logging.getLogger("distributed.client")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with client:
            yield client
    finally:
        log.setLevel(before)


def _introduce(client: Client) -> None:
    """Say where the work can be watched, and who does it."""
    try:
        console.note(f"dashboard: {client.dashboard_link}")
    except KeyError:
        console.note("dashboard: the scheduler has none")
    threads = client.nthreads()
    spare = f", {sum(threads.values())} threads" if len(threads) != sum(threads.values()) else ""
    console.note(f"workers: {len(threads)}{spare}; each does one scan at a time" if threads else _NOBODY)


_NOBODY = "the scheduler has no worker now: waiting for one (dask worker ADDRESS)"


def _as_they_come(client: Client, futures: Mapping[Future[Came], Job], *, shown: bool) -> Iterator[Row]:
    from distributed import CancelledError, wait  # noqa: PLC0415 - as above

    from ptycho_adapters.common.bars import Bar  # noqa: PLC0415 - tqdm, only where it is asked for

    pending = set(futures)
    told = False
    with Bar("scans", of=len(futures)) if shown and futures else contextlib.nullcontext() as bar:
        while pending:
            try:
                with client.as_current():
                    wait(pending, timeout=_LOOK_S, return_when="FIRST_COMPLETED")
            except TimeoutError:
                if not told and not client.nthreads():
                    told = True
                    console.note(_NOBODY)
                continue
            except CancelledError:
                pass  # each says so itself
            for future in [each for each in pending if each.done()]:
                pending.discard(future)
                if bar is not None:
                    bar.step_aside()
                if shown:
                    number = len(futures) - len(pending)
                    console.note(f"scan {number} of {len(futures)}: {futures[future].source}")
                row = _row_of(future, futures[future])
                if bar is not None:
                    bar.come_to(len(futures) - len(pending))
                    bar.redraw()
                yield row


def _row_of(future: Future[Came], job: Job) -> Row:
    """Return what became of a scan, and say what its worker said."""
    from distributed import KilledWorker  # noqa: PLC0415 - as above

    try:
        came = future.result()
    except KilledWorker as error:
        last, times = error.last_worker.address, error.allowed_failures + 1
        found = (
            f"{times} workers were lost while they had it, the last one {last}: memory of the workers, or their logs?"
        )
        return failed(job.source, job.folder, found)
    except Exception as error:  # noqa: BLE001 - whatever ended the task, the other scans have their turn
        return failed(job.source, job.folder, f"no answer from its worker: {type(error).__name__}: {error}")
    for text, level in came.said:
        console.say(text, level)
    if came.process != _process():
        replay(came.logged)
    return came.row
