"""`ptycho infer`: a scan and, if there is one, a trained model in, an object out."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.run_request import RunRequest, add_run_options
from ptycho_adapters.command_line.scan_input import existing, read_measured
from ptycho_adapters.command_line.show_config import show_settings
from ptycho_adapters.factory import create_inference_payload, find_archive, read_archive_config
from ptycho_adapters.pretraining.weights import generalist_payload, weights_path
from ptycho_adapters.scan_facts import read_scan_facts
from ptycho_core.config.knob import Effect
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, resolve_inference
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from ptycho_adapters.torch_backend import ScanProbe
    from ptycho_core.config.payload import InferencePayload, TrainingPayload
    from ptycho_core.config.table import FieldInfo
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

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
    if request.print_config:
        _show(request)
        return
    model_path, source = request.path("model_path"), request.required_path("test_data_file")
    folder = request.required_path("output_dir")
    archive = None if model_path is None else find_archive(model_path)
    preview = _resolved(request, model_path, existing(source, "Test data"), folder)
    scan = read_measured(source, request, preview)
    _reconstruct(request, archive, scan)


def read_request(typed: Mapping[str, object]) -> RunRequest:
    """Read what this command was told."""
    return RunRequest.read(typed, INFERENCE, required=REQUIRED)


def make_payload(request: RunRequest, n_patterns: int) -> InferencePayload:
    """Build the payload of a request; creates the output folder.

    Args:
        request: what the command was told; without a number of groups, all patterns are meant.
        n_patterns: patterns of the scan.

    Raises:
        UsageError: a required flag is missing.
        FileNotFoundError: there is no such model or scan.
        ArchiveError: the model cannot be read.
        ScanFileError: the file is no scan.
        ConfigError: settings cannot be used, in terms of flags.
    """
    model_path, source = request.path("model_path"), request.required_path("test_data_file")
    folder = request.required_path("output_dir")
    if model_path is None:
        payload = _resolved(request, None, existing(source, "Test data"), folder)
        folder.mkdir(parents=True, exist_ok=True)
        return payload
    with request.resolving():
        return create_inference_payload(
            model_path, source, folder, cli=request.cli, file=request.file, all_patterns=n_patterns
        )


def _resolved(request: RunRequest, model_path: Path | None, source: Path, folder: Path) -> InferencePayload:
    """Resolve without touching anything, so that a wrong setting is found before a long read."""
    with request.resolving():
        facts = _facts(model_path, source)
        return resolve_inference(facts, cli=request.cli, output_dir=folder, file=request.file)


def _facts(model_path: Path | None, source: Path) -> InferenceFacts:
    scan = read_scan_facts(source)
    archive = _archive_facts(model_path, scan.N)
    return InferenceFacts(scan=scan, archive=archive, all_patterns=scan.n_patterns or 1)


def _archive_facts(model_path: Path | None, size: int) -> ArchiveFacts:
    """What the model says about itself; the package's own takes patterns of any size."""
    if model_path is None:
        return ArchiveFacts(path=weights_path(), training=generalist_payload(size), shipped=True)
    return ArchiveFacts(path=model_path, training=_quietly_read(find_archive(model_path)))


def _quietly_read(archive: Path) -> TrainingPayload | None:
    """Read how a model was trained; the factory will warn about an empty archive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read_archive_config(archive)


def _show(request: RunRequest) -> None:
    model_path, source = request.path("model_path"), request.path("test_data_file")
    facts: dict[Layer, Mapping[str, object]] = {}
    if model_path is not None:
        training = _quietly_read(find_archive(model_path))
        facts[Layer.ARCHIVE] = ArchiveFacts(path=model_path, training=training).layer()
    if source is not None:
        facts[Layer.SCAN] = read_scan_facts(existing(source, "Test data")).layer()
    payload = None
    if source is not None:
        payload = _resolved(request, model_path, source, request.path("output_dir") or Path())
    with request.resolving():
        show_settings(request, facts, payload)


def _reconstruct(request: RunRequest, archive: Path | None, scan: Scan) -> None:
    from ptycho_adapters.report.results import Summary, product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.torch_backend import generalist_for, load_archive, reconstruct  # noqa: PLC0415 - torch takes seconds

    model = generalist_for(scan) if archive is None else load_archive(archive)
    payload = make_payload(request, scan.n_patterns)
    settings = payload.pt_inference_config
    if payload.execution_config.enable_progress_bar:
        console.note(f"reconstructing {scan.n_patterns} patterns of {scan.N} px")
    result = reconstruct(
        model,
        scan,
        execution_config=payload.execution_config,
        inference_config=settings,
        data_config=payload.pt_data_config,
    )
    source = request.required_path("test_data_file")
    summary = Summary(
        command="infer",
        title=f"reconstructed {source}: {len(result.pattern_indices)} patterns of {scan.N} px",
        figures=figures(result, model.probes),
        inputs={"model_path": archive or weights_path(), "test_data_file": source},
        settings=dict(payload.overrides_applied),
    )
    files = write_reconstruction(product_of(result, model, scan, payload), summary, Path(settings.output_dir))
    console.tell(console.summary(summary.title, summary.figures, files))


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
