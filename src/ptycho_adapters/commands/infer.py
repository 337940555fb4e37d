"""`ptycho infer`: a scan and, if there is one, a trained model in, an object out."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ptycho_adapters.command_line import console
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
from ptycho_adapters.command_line.scan_input import say_findings, warn_of
from ptycho_adapters.crew import crew_of
from ptycho_adapters.stages import stage
from ptycho_core.config.table import INFERENCE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_adapters.command_line.inference import ReadScan
    from ptycho_core.config.payload import InferencePayload

HELP = "reconstruct a scan, with a trained model or the package's own"
USAGE = "ptycho infer --test-data FILE --output-dir FOLDER [--model-path FOLDER] [flags]"
REQUIRED: Final = frozenset({"test_data_file", "output_dir"})
_OWN_DEFAULTS: Mapping[str, object] = MappingProxyType({})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    add_inference_options(parser, {**HINTS, "test_data_file": "required; also --test-data"})


def run(typed: Mapping[str, object]) -> None:
    """Reconstruct, write the result and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    request = read_request(typed)
    with silent_on_empty_archives():
        if request.print_config:
            show_inference(request, _OWN_DEFAULTS)
            return
        payload = plan(request)
    with profile_of(request):
        _reconstruct(read_for(request, payload, Models()))


def read_request(typed: Mapping[str, object]) -> RunRequest:
    """Read what this command was told."""
    return RunRequest.read(typed, INFERENCE, required=REQUIRED)


def plan(request: RunRequest) -> InferencePayload:
    """Resolve what was asked for; see `plan_for`.

    Raises:
        UsageError: a required flag is missing.
    """
    request.required_path("test_data_file")
    return plan_for(request, request.required_path("output_dir"), _OWN_DEFAULTS)


def _reconstruct(ready: ReadScan) -> None:
    from ptycho_adapters.report.results import product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    found = say_findings(ready.source, ready.scan)
    result = reconstruct_read(ready)
    if not crew_of(ready.payload.execution_config.devices).leads:
        return
    warn_of(result.findings, ready.source)
    summary = Summary(
        command="infer",
        title=title_of(ready, result),
        figures=figures(result, ready.model.probes),
        inputs={"model_path": ready.model_path, "test_data_file": ready.source},
        settings=dict(ready.payload.overrides_applied),
        findings=(*found, *result.findings),
    )
    with stage("files") as course:
        product = product_of(result, ready.model, ready.scan, ready.payload, findings=summary.findings)
        files = write_reconstruction(product, summary, Path(ready.payload.pt_inference_config.output_dir))
        course.count(files=len(files), megabytes=sum(path.stat().st_size for path in files) / 1e6)
    console.tell(console.summary(summary.title, summary.figures, files))
