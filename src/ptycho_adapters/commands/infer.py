"""`ptycho infer`: scans and, if there is one, a trained model in, objects out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.default_finish import FINISH_BY_DEFAULT, HINT, affordable
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
from ptycho_adapters.command_line.one_scan import ScanTask, Verb
from ptycho_adapters.command_line.parser import Scans
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.run_request import RunRequest
from ptycho_adapters.command_line.scan_input import apart_from, say_findings, warn_of
from ptycho_adapters.command_line.scan_list import folders_of
from ptycho_adapters.command_line.several import (
    OWN_FLAGS,
    add_several_options,
    are_several,
    reconstruct_all,
    refuse_to_show_several,
)
from ptycho_adapters.crew import crew_of
from ptycho_adapters.stages import stage
from ptycho_core.config.table import INFERENCE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_core.config.payload import InferencePayload

HELP = "reconstruct scans, with a trained model or the package's own"
USAGE = "ptycho infer --test-data FILE [--test-data FILE ...] --output-dir FOLDER [--model-path FOLDER] [flags]"
REQUIRED: Final = frozenset({"test_data_file", "output_dir"})
_COMMAND = "infer"
_OF_FILE = (
    "required; also --test-data; several times, a folder or a pattern in quotes: each scan has a folder of its own"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    add_several_options(parser)
    hints = {**HINTS, "test_data_file": _OF_FILE, "finish": HINT}
    add_inference_options(parser, hints, own={**OWN_FLAGS, "test_data_file": Scans})


def run(typed: Mapping[str, object]) -> None:
    """Reconstruct, write results and report.

    Raises:
        PtychoError: the user's input cannot be used, or some of several scans failed.
        OSError: from the file system.
    """
    request = read_request(typed)
    names = _names(typed, request)
    if request.print_config:
        refuse_to_show_several(names)
        with silent_on_empty_archives():
            show_inference(request, FINISH_BY_DEFAULT)
        return
    if names and are_several(typed, names):
        folder = request.required_path("output_dir")
        reconstruct_all(_VERB, typed, request, folders_of(names, folder, "--test-data"), folder)
        return
    with silent_on_empty_archives():
        payload = plan(request)
    with profile_of(request):
        folder = Path(payload.pt_inference_config.output_dir)
        said = _reconstruct(ScanTask(request=request, folder=folder, payload=payload), Models())
    if said:
        console.tell(said)


def read_request(typed: Mapping[str, object]) -> RunRequest:
    """Read what this command was told."""
    return RunRequest.read(typed, INFERENCE, required=REQUIRED)


def plan(request: RunRequest) -> InferencePayload:
    """Resolve what was asked for; see `plan_for`.

    Raises:
        UsageError: a required flag is missing.
    """
    request.required_path("test_data_file")
    return plan_for(request, request.required_path("output_dir"), FINISH_BY_DEFAULT)


def _names(typed: Mapping[str, object], request: RunRequest) -> list[str]:
    """Return the scans as they were named: by flags, or by one in a configuration file."""
    listed = typed.get("scans")
    if isinstance(listed, list):
        return [str(name) for name in listed]
    said = request.path("test_data_file")
    return [] if said is None else [str(said)]


def _defaults(request: RunRequest) -> Mapping[str, object]:
    del request
    return FINISH_BY_DEFAULT


def _reconstruct(task: ScanTask, models: Models) -> str:
    """Reconstruct one scan and write its result; give what there is to say about it, which the first process says."""
    from ptycho_adapters.report.results import product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    ready = read_for(task.request, task.payload, models)
    settled = affordable(ready.payload, ready.scan, law_known=ready.model.prior_law is not None)
    ready = attrs.evolve(ready, payload=settled)
    found = say_findings(ready.source, ready.scan)
    result = apart_from(found, reconstruct_read(ready))
    if not crew_of(ready.payload.execution_config.devices).leads:
        return ""
    warn_of(result.findings, ready.source)
    summary = Summary(
        command=_COMMAND,
        title=title_of(ready, result),
        figures=figures(result, ready.model.probes),
        inputs={"model_path": ready.model_path, "test_data_file": ready.source},
        settings=dict(ready.payload.overrides_applied),
        findings=(*found, *result.findings),
        made_from=task.made_from,
    )
    with stage("files") as course:
        product = product_of(result, ready.model, ready.scan, ready.payload, findings=summary.findings)
        files = write_reconstruction(product, summary, task.folder)
        course.count(files=len(files), megabytes=sum(path.stat().st_size for path in files) / 1e6)
    return console.summary(summary.title, summary.figures, files)


_VERB = Verb(name=_COMMAND, defaults=_defaults, work=_reconstruct)
