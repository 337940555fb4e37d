"""`ptycho infer`: a scan and, if there is one, a trained model in, an object out."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ptycho_adapters.archive_facts import find_archive, find_model, read_archive_config
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.run_request import RunRequest, add_run_options
from ptycho_adapters.command_line.scan_input import existing, naming, read_measured, say_findings, warn_of
from ptycho_adapters.command_line.show_config import show_settings
from ptycho_adapters.factory import plan_inference, with_all_patterns
from ptycho_adapters.legacy_archives import LEGACY_NOTICE
from ptycho_adapters.run import framework
from ptycho_adapters.run import run as run_on_backend
from ptycho_adapters.shipped_weights import weights_path
from ptycho_core.config.knob import Effect
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ArchiveFacts
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from ptycho_adapters.common.backend import Framework
    from ptycho_adapters.common.model import ModelRecord, ScanProbe
    from ptycho_core.config.payload import InferencePayload
    from ptycho_core.config.table import FieldInfo
    from ptycho_core.measurement.scan import Scan

HELP = "reconstruct a scan, with a trained model or the package's own"
USAGE = "ptycho infer --test-data FILE --output-dir FOLDER [--model-path FOLDER] [flags]"
REQUIRED: Final = frozenset({"test_data_file", "output_dir"})
_HINTS = MappingProxyType(
    {
        "model_path": "default: the weights in the package, under the scan's own probe",
        "test_data_file": "required; also --test-data",
        "output_dir": "required",
        "n_groups": "default: all patterns",
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    add_run_options(parser, INFERENCE, shown=_is_shown, hints=_HINTS)


def _is_shown(info: FieldInfo) -> bool:
    # What describes the model comes with it.
    return info.effect is not Effect.LEGACY and INFERENCE.reads(info) and info.key not in OF_ARCHIVE


def run(typed: Mapping[str, object]) -> None:
    """Reconstruct, write the result and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    request = read_request(typed)
    with _silent_on_empty_archives():
        if request.print_config:
            _show(request)
            return
        payload = plan(request)
    named = request.path("model_path")
    archive = None if named is None else find_model(named)
    source = payload.tf_inference_config.test_data_file
    scan = read_measured(source, request, payload)
    _reconstruct(request, with_all_patterns(payload, scan.n_patterns), scan, archive)


def read_request(typed: Mapping[str, object]) -> RunRequest:
    """Read what this command was told."""
    return RunRequest.read(typed, INFERENCE, required=REQUIRED)


def plan(request: RunRequest) -> InferencePayload:
    """Resolve what was asked for, so that a wrong flag is found before a long read; nothing is written.

    Without a number of groups, all patterns are meant, as many as the file's header says.

    Raises:
        UsageError: a required flag is missing.
        FileNotFoundError: there is no such model or scan.
        ArchiveError: the model cannot be read.
        ScanFileError: the file is no scan.
        ConfigError: settings cannot be used, in terms of flags.
    """
    source, folder = request.required_path("test_data_file"), request.required_path("output_dir")
    return _planned(request, source, folder)


def _planned(request: RunRequest, source: Path, folder: Path) -> InferencePayload:
    with request.resolving():
        return plan_inference(
            request.path("model_path"),
            existing(source, "Test data"),
            folder,
            cli=request.cli,
            file=request.file,
            all_patterns="as stored",
        )


@contextmanager
def _silent_on_empty_archives() -> Iterator[None]:
    """Keep back the warning that an archive is empty: a run refuses it, and says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* is empty: taking the facts", category=UserWarning)
        yield


def _show(request: RunRequest) -> None:
    model, source = request.path("model_path"), request.path("test_data_file")
    if source is not None:
        show_settings(request, _planned(request, source, request.path("output_dir") or Path()))
        return
    facts: dict[Layer, Mapping[str, object]] = {}
    if model is not None:
        facts[Layer.ARCHIVE] = ArchiveFacts(path=model, training=read_archive_config(find_archive(model))).layer()
    with request.resolving():
        show_settings(request, None, facts)


def _reconstruct(request: RunRequest, payload: InferencePayload, scan: Scan, archive: Path | None) -> None:
    from ptycho_adapters.report.results import product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415

    model, path = _model(framework(payload.tf_inference_config.backend), archive, scan)
    source = request.required_path("test_data_file")
    found = say_findings(source, scan)
    settings = payload.pt_inference_config
    if payload.execution_config.enable_progress_bar:
        console.note(f"reconstructing {scan.n_patterns} patterns of {scan.N} px")
    with naming(source):
        _, _, results = run_on_backend(payload, scan, model=model)
    result = results["reconstruction"]
    if not isinstance(result, Reconstruction):
        raise TypeError(f"expected a reconstruction, found a {type(result).__name__}")
    warn_of(result.findings, source)
    summary = Summary(
        command="infer",
        title=f"reconstructed {source}: {len(result.pattern_indices)} patterns of {scan.N} px",
        figures=figures(result, model.probes),
        inputs={"model_path": path, "test_data_file": source},
        settings=dict(payload.overrides_applied),
        findings=(*found, *result.findings),
    )
    product = product_of(result, model, scan, payload, findings=summary.findings)
    files = write_reconstruction(product, summary, Path(settings.output_dir))
    console.tell(console.summary(summary.title, summary.figures, files))


def _model(backend: Framework, archive: Path | None, scan: Scan) -> tuple[ModelRecord, Path]:
    """Load the model that was named, or the package's own for the scan; and its file."""
    if archive is None:
        return backend.generalist_for(scan), weights_path()
    with warnings.catch_warnings():
        # The plan has said it.
        warnings.filterwarnings("ignore", message=f".*{re.escape(LEGACY_NOTICE)}", category=UserWarning)
        return backend.load_archive(archive), archive


def figures(result: Reconstruction, probes: Sequence[ScanProbe]) -> dict[str, object]:
    """Return what a reconstruction reports about itself, and which probe of several of the model it took."""
    height, width = result.object.shape
    stage = result.seconds.get("network and stitching", 0.0)
    speed = {"patterns_per_s": len(result.pattern_indices) / stage} if stage > 0 else {}
    return {
        **result.metrics,
        "probe_source": result.probe_source,
        **_probe_of_scan(result.probe_number, probes),
        "height_px": height,
        "width_px": width,
        "covered_fraction": float(result.covered.mean()),
        **speed,
        "seconds": sum(result.seconds.values()),
    }


def _probe_of_scan(number: int | None, probes: Sequence[ScanProbe]) -> dict[str, object]:
    if number is None or len(probes) == 1:
        return {}
    return {"probe_of_scan": f"{number + 1} {probes[number].name}".rstrip()}
