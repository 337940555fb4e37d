"""`ptycho reconstruct`: scans in, finished objects with a report out, whatever they need decided by itself."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.inference import (
    HINTS,
    Models,
    add_inference_options,
    figures,
    read_for,
    reconstruct_read,
    show_inference,
    silent_on_empty_archives,
    title_of,
)
from ptycho_adapters.command_line.one_scan import ScanTask, Verb, of_scan, task_of
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.run_request import RunRequest
from ptycho_adapters.command_line.scan_input import apart_from, existing, say_findings, warn_of
from ptycho_adapters.command_line.scan_list import folders_of
from ptycho_adapters.command_line.several import (
    OWN_FLAGS,
    add_several_options,
    are_several,
    reconstruct_all,
    refuse_to_show_several,
)
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.crew import crew_of
from ptycho_adapters.evaluation.area import Area, judge
from ptycho_adapters.evaluation.objects import PlacedObject, read_object
from ptycho_adapters.stages import stage
from ptycho_adapters.wording import shown_value
from ptycho_core.config.table import INFERENCE
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.results.alignment import ComparisonSettings
from ptycho_core.results.metrics import Comparison

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from ptycho_adapters.command_line.inference import ReadScan
    from ptycho_adapters.report.decisions import Decision
    from ptycho_core.results.reconstruction import Reconstruction

HELP = "reconstruct scans the whole way: inspect, network, finish, error bars, report"
USAGE = "ptycho reconstruct SCAN [SCAN ...] --output-dir FOLDER [--model-path FOLDER] [flags]"
OWN_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "finish": "auto",
        "blur_search": "always",
        "error_bars": True,
    }
)
"""Settings of this command where nobody says otherwise, a layer of their own."""
_COMMAND = "reconstruct"
_OF_PASS = frozenset({"phase_correlation", "amplitude_correlation", "phase_frc50_per_px"})


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
        help="scan in any known format; of several, of a folder of them or of a pattern in quotes, each has a folder "
        "of its own in the output folder",
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="product, or NPZ with `object` or `objectGuess`, to compare a single scan's result with",
    )
    add_several_options(parser)
    own = {key: f"default here: {shown_value(value)}" for key, value in OWN_DEFAULTS.items()}
    add_inference_options(parser, {**HINTS, **own}, left_out=frozenset({"test_data_file"}), own=OWN_FLAGS)


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
    if are_several(typed, names):
        if reference is not None:
            raise UsageError("--reference: expected none beside several scans, of which each has one of its own")
        reconstruct_all(_VERB, typed, request, folders, folder)
        return
    with silent_on_empty_archives():
        task = task_of(_VERB, typed, of_scan(request, *next(iter(folders.items()))))
    with profile_of(request):
        said = _reconstruct(attrs.evolve(task, reference=reference), Models())
    if said:
        console.tell(said)


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def _show(request: RunRequest, names: Sequence[str]) -> None:
    refuse_to_show_several(names)
    with silent_on_empty_archives():
        one = [of_scan(request, Path(name), request.path("output_dir") or Path()) for name in names]
        shown = one[0] if one else request
        show_inference(shown, _defaults(shown))


def _defaults(request: RunRequest) -> Mapping[str, object]:
    """Return this command's own settings: error bars belong to a finish, and go with it where it is left out."""
    return {} if request.said("finish") == "none" else OWN_DEFAULTS


def _reconstruct(task: ScanTask, models: Models) -> str:
    """Reconstruct one scan and write its result; give what there is to say about it, which the first process says."""
    from ptycho_adapters.report.decisions import decisions_after, decisions_before  # noqa: PLC0415
    from ptycho_adapters.report.results import product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    reference = None if task.reference is None else read_object(task.reference)
    ready = read_for(task.request, task.payload, models)
    found = say_findings(ready.source, ready.scan)
    before = decisions_before(ready.scan, ready.payload, found)
    _say(before, ready)
    result = apart_from(found, reconstruct_read(ready))
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


_VERB = Verb(name=_COMMAND, defaults=_defaults, work=_reconstruct)
