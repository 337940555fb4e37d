"""`ptycho reconstruct`: scans in, finished objects with a report out, whatever they need decided by itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.archive_facts import find_model
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.batch import Row, State, table, write_tables
from ptycho_adapters.command_line.earlier_results import is_there, made_from, summary_in
from ptycho_adapters.command_line.inference import (
    HINTS,
    Models,
    add_inference_options,
    figures,
    plan_for,
    read_for,
    reconstruct_read,
    show_inference,
    silent_on_empty_archives,
    title_of,
)
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.run_request import RunRequest
from ptycho_adapters.command_line.scan_input import existing, say_findings, warn_of
from ptycho_adapters.command_line.scan_list import folders_of
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.crew import crew_of, started_crew
from ptycho_adapters.evaluation.area import Area, judge
from ptycho_adapters.evaluation.objects import PlacedObject, read_object
from ptycho_adapters.stages import stage
from ptycho_adapters.wording import shown_value
from ptycho_core.config.payload import InferencePayload
from ptycho_core.config.table import INFERENCE
from ptycho_core.errors import PtychoError, ScanFileError
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.results.alignment import ComparisonSettings
from ptycho_core.results.metrics import Comparison

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from ptycho_adapters.command_line.inference import ReadScan
    from ptycho_adapters.report.decisions import Decision
    from ptycho_core.results.reconstruction import Reconstruction

HELP = "reconstruct scans the whole way: inspect, network, finish, error bars, report"
USAGE = "ptycho reconstruct SCAN [SCAN ...] --output-dir FOLDER [--model-path FOLDER] [flags]"
OWN_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "finish": "auto",
        "error_bars": True,
    }
)
"""Settings of this command where nobody says otherwise, a layer of their own."""
_COMMAND = "reconstruct"
_OF_PASS = frozenset({"phase_correlation", "amplitude_correlation", "phase_frc50_per_px"})
_OF_ONE_SCAN = frozenset({"test_data_file", "output_dir"})


class SomeFailedError(PtychoError):
    """Some of several scans could not be reconstructed."""


@attrs.frozen(kw_only=True, eq=False)
class _Task:
    """One scan that is to be reconstructed.

    Attributes:
        request: what was asked for, with its file and its folder.
        folder: for its result.
        made_from: all that the result will hang on.
        payload: its settings.
        reference: what it is to be compared with.
    """

    request: RunRequest
    folder: Path
    made_from: Mapping[str, object]
    payload: InferencePayload
    reference: Path | None

    @property
    def source(self) -> Path:
        """The file of the scan."""
        return self.request.required_path("test_data_file")


@attrs.frozen(kw_only=True, eq=False)
class _Compared:
    """A result against a reference.

    Attributes:
        finished: of the result; None where there is no reference, or none that it can be compared with.
        passed: of the network's object, where a finish changed that.
        failure: why they cannot be compared.
    """

    finished: Comparison | None = None
    passed: Comparison | None = None
    failure: ScanFileError | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    parser.add_argument(
        "scans",
        metavar="SCAN",
        nargs="*",
        help="scan in any known format; of several, or of a pattern in quotes, each has a folder of its own in the "
        "output folder",
    )
    parser.add_argument(
        "--again", action="store_true", help="of several scans, also those whose result is there already"
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="product, or NPZ with `object` or `objectGuess`, to compare a single scan's result with",
    )
    own = {key: f"default here: {shown_value(value)}" for key, value in OWN_DEFAULTS.items()}
    add_inference_options(parser, {**HINTS, **own}, left_out=frozenset({"test_data_file"}))


def run(typed: Mapping[str, object]) -> None:
    """Reconstruct, write results and reports.

    Raises:
        PtychoError: the user's input cannot be used, or some of several scans failed.
        OSError: from the file system.
    """
    request = RunRequest.read(typed, INFERENCE, required=frozenset({"output_dir"}))
    if request.said("test_data_file") is not None:
        raise UsageError("--test-data-file: expected none, the scans are given without a flag: SCAN [SCAN ...]")
    names = [str(name) for name in _listed(typed.get("scans"))]
    if request.print_config:
        _show(request, names)
        return
    folder = request.required_path("output_dir")
    folders = folders_of(names, folder)
    reference = None if typed.get("reference") is None else existing(Path(str(typed["reference"])), "Reference")
    if list(folders.values()) == [folder]:
        with silent_on_empty_archives():
            task = _task(typed, _of_scan(request, *next(iter(folders.items()))), reference)
        with profile_of(request):
            said = _reconstruct(task, Models())
        if said:
            console.tell(said)
        return
    if reference is not None:
        raise UsageError("--reference: expected none beside several scans, of which each has one of its own")
    with profile_of(request):
        _reconstruct_all(typed, request, folders, folder)


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def _show(request: RunRequest, names: Sequence[str]) -> None:
    if len(names) > 1:
        raise UsageError("--print-config: expected one scan at most, whose settings they are")
    with silent_on_empty_archives():
        one = [_of_scan(request, Path(name), request.path("output_dir") or Path()) for name in names]
        shown = one[0] if one else request
        show_inference(shown, _defaults(shown))


def _defaults(request: RunRequest) -> Mapping[str, object]:
    """Return this command's own settings: error bars belong to a finish, and go with it where it is left out."""
    return {} if request.said("finish") == "none" else OWN_DEFAULTS


def _of_scan(request: RunRequest, source: Path, folder: Path) -> RunRequest:
    said = {name: value for name, value in request.cli.items() if INFERENCE.key(name) not in _OF_ONE_SCAN}
    where = {} if request.path("output_dir") is None else {"output_dir": folder}
    return attrs.evolve(request, cli={**said, "test_data_file": source, **where})


def _task(typed: Mapping[str, object], request: RunRequest, reference: Path | None) -> _Task:
    folder = request.required_path("output_dir")
    payload = plan_for(request, folder, _defaults(request))
    made = made_from(typed, request, payload)
    return _Task(request=request, folder=folder, made_from=made, payload=payload, reference=reference)


def _reconstruct_all(
    typed: Mapping[str, object], request: RunRequest, folders: Mapping[Path, Path], folder: Path
) -> None:
    """Reconstruct one after the other, whatever becomes of some.

    Raises:
        SomeFailedError: some failed.
    """
    named = request.path("model_path")
    if named is not None:
        find_model(named)
    planned: dict[Path, _Task | ScanFileError] = {}
    with silent_on_empty_archives():
        for source, own in folders.items():
            try:
                planned[source] = _task(typed, _of_scan(request, source, own), None)
            except ScanFileError as error:
                planned[source] = error
    devices = {task.payload.execution_config.devices for task in planned.values() if isinstance(task, _Task)}
    if devices - {1} or started_crew().count > 1:
        raise UsageError(
            "--devices: expected 1 for several scans, of which each may fail by itself; share out one at a time"
        )
    rows: list[Row] = []
    files: list[Path] = []
    models = Models()
    for number, (source, task) in enumerate(planned.items(), start=1):
        if request.said("enable_progress_bar") is not False:
            console.note(f"scan {number} of {len(planned)}: {source}")
        rows.append(_row(source, folders[source], task, models, again=bool(typed.get("again"))))
        # After each, so that what is known stays if the next one ends it all.
        files = write_tables(rows, folder, _COMMAND)
    console.tell("\n".join([table(rows), *(f"wrote {path}" for path in files)]))
    failed = [str(row.source) for row in rows if row.state is State.FAILED]
    if failed:
        raise SomeFailedError(f"{len(failed)} of {len(rows)} scans: {', '.join(failed)}")


def _row(source: Path, folder: Path, task: _Task | ScanFileError, models: Models, *, again: bool) -> Row:
    """Reconstruct one of several scans, and say what became of it."""
    clock = time.perf_counter()
    error: Exception | None = task if isinstance(task, ScanFileError) else None
    state = State.DONE
    if isinstance(task, _Task):
        if not again and is_there(folder, task.made_from):
            console.note(f"{source}: {folder} holds its result under the same settings already; --again redoes it")
            state = State.SKIPPED
        else:
            try:
                with stage("scan", file=str(source)):
                    _reconstruct(task, models)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the other scans have their turn
                error = failure
    if error is not None:
        said = " ".join(f"{'' if isinstance(error, PtychoError) else type(error).__name__ + ': '}{error}".split())
        console.note(f"{source} failed: {said}")
        return Row(
            source=source,
            folder=folder,
            state=State.FAILED,
            figures={},
            seconds=time.perf_counter() - clock,
            error=said,
        )
    known = summary_in(folder).get("figures")
    return Row(
        source=source,
        folder=folder,
        state=state,
        figures=known if isinstance(known, dict) else {},
        seconds=time.perf_counter() - clock,
    )


def _reconstruct(task: _Task, models: Models) -> str:
    """Reconstruct one scan and write its result; give what there is to say about it, which the first process says."""
    from ptycho_adapters.report.decisions import decisions_after, decisions_before  # noqa: PLC0415
    from ptycho_adapters.report.results import product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    reference = None if task.reference is None else read_object(task.reference)
    ready = read_for(task.request, task.payload, models)
    found = say_findings(ready.source, ready.scan)
    before = decisions_before(ready.scan, ready.payload, found)
    _say(before, ready)
    result = reconstruct_read(ready)
    if not crew_of(ready.payload.execution_config.devices).leads:
        return ""
    after = decisions_after(result, ready.model, ready.payload)
    _say(after, ready)
    poor = [each for each in result.findings if each.kind is Suspicion.POOR_FIT]
    warn_of(poor if _is_told(ready) else result.findings, ready.source)
    compared = _Compared() if reference is None else _compared(result, reference, ready.source)
    comparison, first = compared.finished, compared.passed
    inputs = {"model_path": ready.model_path, "test_data_file": ready.source}
    summary = Summary(
        command=_COMMAND,
        title=title_of(ready, result),
        figures=figures(result, ready.model.probes) | _agreement(comparison, first),
        inputs=inputs if task.reference is None else {**inputs, "reference": task.reference},
        settings=dict(ready.payload.overrides_applied),
        findings=(*found, *result.findings),
        decisions=(*before, *after),
        made_from=task.made_from,
    )
    with stage("files") as course:
        product = product_of(result, ready.model, ready.scan, ready.payload, findings=summary.findings)
        files = write_reconstruction(product, summary, task.folder, comparison=comparison, first=first)
        course.count(files=len(files), megabytes=sum(path.stat().st_size for path in files) / 1e6)
    said = console.summary(summary.title, summary.figures, files)
    if compared.failure is not None:
        # The work is not lost to a reference that fits nowhere.
        console.tell(said)
        raise compared.failure
    return said


def _say(decisions: Iterable[Decision], ready: ReadScan) -> None:
    if _is_told(ready):
        for decision in decisions:
            console.note(f"{ready.source}: {decision}")


def _is_told(ready: ReadScan) -> bool:
    return ready.payload.execution_config.enable_progress_bar


def _compared(result: Reconstruction, reference: PlacedObject, source: Path) -> _Compared:
    """Compare a result with a reference, and what it came from where a finish changed that."""
    found = PlacedObject(object=result.object, origin_px=result.origin_px, coverage=result.coverage)
    settings, name = ComparisonSettings(), f"{source} against the reference"
    try:
        comparison = judge(found, reference, Area(), settings, name=name)
        if result.before_finish is None:
            return _Compared(finished=comparison)
        first = attrs.evolve(found, object=result.before_finish)
        return _Compared(finished=comparison, passed=judge(first, reference, Area(), settings, name=name))
    except ScanFileError as error:
        return _Compared(failure=error)


def _agreement(comparison: Comparison | None, first: Comparison | None) -> dict[str, object]:
    """Return the figures of both comparisons, those of the network's object under names of the pass."""
    before = {} if first is None else first.figures()
    of_pass = {f"pass_{name}": value for name, value in before.items() if name in _OF_PASS}
    return {**({} if comparison is None else comparison.figures()), **of_pass}
