"""`ptycho train`: a scan in, a trained model out."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.run_request import RunRequest, add_run_options
from ptycho_adapters.command_line.scan_input import existing, naming, say_findings, warn_of
from ptycho_adapters.command_line.show_config import show_settings
from ptycho_adapters.command_line.training_scans import read_training_scans, read_validation_scan, training_files
from ptycho_adapters.common.checkpoint_files import AUTO, checkpoints_of, last_checkpoint
from ptycho_adapters.common.groups import held_out_fraction, training_set_for
from ptycho_adapters.common.model import ModelRecord
from ptycho_adapters.crew import crew_of
from ptycho_adapters.factory import plan_training
from ptycho_adapters.run import framework
from ptycho_adapters.run import run as run_on_backend
from ptycho_adapters.scan_facts import read_scan_facts
from ptycho_adapters.stages import stage
from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import TRAINING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ptycho_adapters.command_line.training_scans import TrainingFiles
    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.findings import Finding
    from ptycho_core.measurement.scan import Scan

HELP = "train a model on one scan or several"
USAGE = "ptycho train --train-data-file FILE --output-dir FOLDER --n-groups INTEGER [flags]"
REQUIRED: Final = frozenset({"train_data_file", "output_dir", "n_groups"})
_FEW_STEPS = 20
_HINTS = MappingProxyType(
    {
        "train_data_file": "required",
        "output_dir": "required",
        "n_groups": "required",
        "training_directories": "default: none",
        "test_data_file": "default: a region of every scan is held out instead",
        "N": "default: as the scan",
        "nphotons": "default: as the scan says, else 1e9",
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    add_run_options(parser, TRAINING, shown=TRAINING.reads, hints=_HINTS)


def run(typed: Mapping[str, object]) -> None:
    """Train, save the model and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    request = read_request(typed)
    if request.print_config:
        _show(request)
        return
    payload = plan(request)
    with profile_of(request):
        _trained(request, payload)


def _trained(request: RunRequest, payload: TrainingPayload) -> None:
    files = training_files(request, payload)
    scans = read_training_scans(files, request, payload)
    found = _suspicions(files, scans)
    data = _grouped(request, payload, files, scans)
    if payload.execution_config.resume == AUTO:
        console.note(f"--resume auto: {_goes_on_from(payload)}")
    with naming(*files.train):
        model, seconds = _train(request, payload, data)
    if crew_of(payload.execution_config.devices).leads:
        found += _put_right(files, model)
        _report(model, seconds, files, scans, found)
        warn_of_few_steps(model)


def warn_of_few_steps(model: ModelRecord) -> None:
    """Warn that a time limit left next to nothing to learn from."""
    steps = model.history[-1].steps if model.history else 0
    if model.payload.execution_config.max_time is not None and 0 < steps < _FEW_STEPS:
        console.warn(
            f"{steps} steps fitted into --max-time; before you rely on this model, compare it with what ptycho infer "
            "makes of a scan without --model-path"
        )


def read_request(typed: Mapping[str, object]) -> RunRequest:
    """Read what this command was told."""
    return RunRequest.read(typed, TRAINING, required=REQUIRED)


def plan(request: RunRequest) -> TrainingPayload:
    """Resolve what was asked for, so that a wrong flag is found before a long read; nothing is written.

    Raises:
        UsageError: a required flag is missing.
        FileNotFoundError: there is no such scan.
        ScanFileError: the file is no scan.
        ConfigError: settings cannot be used, in terms of flags.
    """
    source, folder = request.required_path("train_data_file"), request.required_path("output_dir")
    return _planned(request, source, folder)


def _planned(request: RunRequest, source: Path, folder: Path) -> TrainingPayload:
    with request.resolving():
        return plan_training(existing(source, "Training data"), folder, cli=request.cli, file=request.file)


def _show(request: RunRequest) -> None:
    source, folder = request.path("train_data_file"), request.path("output_dir") or Path()
    if source is not None and request.said("n_groups") is not None:
        show_settings(request, _planned(request, source, folder))
        return
    facts = {} if source is None else {Layer.SCAN: read_scan_facts(existing(source, "Training data")).layer()}
    with request.resolving():
        show_settings(request, None, facts)


def _suspicions(files: TrainingFiles, scans: Sequence[Scan]) -> tuple[Finding, ...]:
    """Say what is suspicious about each scan."""
    return _named([(path, say_findings(path, scan)) for path, scan in zip(files.train, scans, strict=True)])


def _put_right(files: TrainingFiles, model: ModelRecord) -> tuple[Finding, ...]:
    """Say what was put right about each scan before the first step."""
    found = [(path, each.findings) for path, each in zip(files.train, model.probes, strict=True)]
    for path, findings in found:
        warn_of(findings, path)
    return _named(found)


def _named(found: Sequence[tuple[Path, tuple[Finding, ...]]]) -> tuple[Finding, ...]:
    """Give findings of all scans; of several, with the names of their files."""
    return tuple(
        attrs.evolve(each, text=f"{path.name}: {each.text}" if len(found) > 1 else each.text)
        for path, findings in found
        for each in findings
    )


def _grouped(request: RunRequest, payload: TrainingPayload, files: TrainingFiles, scans: Sequence[Scan]) -> TrainingSet:
    """Draw the groups before anything is written; a scan that is too small for them is the user's to mend."""
    validation = read_validation_scan(files, request, payload)
    with request.resolving(), stage("groups") as course:
        data = training_set_for(payload, scans, validation=validation, names=files.names)
        course.count(groups=sum(len(groups.train) for groups in data.groups))
    return data


def _train(request: RunRequest, payload: TrainingPayload, data: TrainingSet) -> tuple[ModelRecord, float]:
    framework(payload.tf_training_config.backend)  # one that is missing is the first thing to say
    if payload.execution_config.enable_progress_bar:
        several = f" in {len(data.scans)} scans" if len(data.scans) > 1 else ""
        console.note(f"training on {_size(data.scans)}{several}{_suited(payload, data)}")
    started = time.perf_counter()
    with request.resolving(), _stop_said(payload):
        _, _, results = run_on_backend(payload, data)
    model = results["model"]
    if not isinstance(model, ModelRecord):
        raise TypeError(f"expected a trained model, found a {type(model).__name__}")
    return model, time.perf_counter() - started


def _goes_on_from(payload: TrainingPayload) -> str:
    folder = last_checkpoint(payload).parent
    if checkpoints_of(payload):
        return f"going on from the newest whole checkpoint in {folder}"
    return f"no checkpoint in {folder}: starting from the beginning"


@contextmanager
def _stop_said(payload: TrainingPayload) -> Iterator[None]:
    """Say what a training that is told to stop leaves."""
    try:
        yield
    except SystemExit:
        last = last_checkpoint(payload)
        if payload.execution_config.enable_checkpointing and last.is_file():
            console.note(f"stopped: {last} holds what was done; --resume auto goes on from there")
        raise


def _suited(payload: TrainingPayload, data: TrainingSet) -> str:
    """Say what was suited to a scan that is too small for the usual groups or the usual region held out."""
    if data.validation is not None:
        return ""
    set_to = payload.pt_training_config.validation_fraction
    moved = Layer.SCAN in (payload.provenance["gridsize"], payload.provenance["validation_fraction"])
    shares = [held_out_fraction(payload, scan.n_patterns) for scan in data.scans]
    if not moved and set(shares) == {set_to}:
        return ""
    side, counts = payload.tf_training_config.model.gridsize, (scan.n_patterns for scan in data.scans)
    held_out = ", ".join(str(round(share * count)) for share, count in zip(shares, counts, strict=True))
    return (
        f": few, so in groups of {side} x {side} (--gridsize says otherwise), "
        f"{held_out} held out (--validation-fraction says otherwise)"
    )


def _size(scans: Sequence[Scan]) -> str:
    return f"{sum(scan.n_patterns for scan in scans)} patterns of {scans[0].N} px"


def _report(
    model: ModelRecord, seconds: float, files: TrainingFiles, scans: Sequence[Scan], found: tuple[Finding, ...]
) -> None:
    from ptycho_adapters.report.results import write_training_pictures  # noqa: PLC0415 - see above
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415 - see above

    first, *further = files.train
    folder = Path(model.payload.pt_training_config.output_dir)
    several = f" and {len(further)} more scan{'s' * (len(further) > 1)}" if further else ""
    summary = Summary(
        command="train",
        title=f"trained on {first}{several}: {_size(scans)}",
        figures=figures(model, seconds),
        inputs={"train_data_file": first, **{f"scan_{number}": path for number, path in enumerate(further, start=2)}},
        settings=dict(model.payload.overrides_applied),
        findings=found,
    )
    with stage("files") as course:
        archive = framework(model.payload.tf_training_config.backend).save_archive(model, folder)
        written = [archive, *write_training_pictures(model, summary, folder)]
        course.count(files=len(written), megabytes=sum(path.stat().st_size for path in written) / 1e6)
    console.tell(console.summary(summary.title, summary.figures, written))


def figures(model: ModelRecord, seconds: float) -> dict[str, object]:
    """Return what a training reports about itself."""
    history = model.history
    config, execution = model.payload.pt_training_config, model.payload.execution_config
    steps = history[-1].steps if history else 0
    patterns = steps * config.batch_size * execution.accum_steps * model.payload.pt_data_config.C
    figures: dict[str, object] = {"epochs": len(history), "steps": steps}
    if history:
        figures["training_loss"] = history[-1].train
        if history[-1].validation is not None:
            figures["held_out_loss"] = history[-1].validation
    if model.selection is not None:
        figures["held_out_loss_at_start"] = model.selection.start_loss
        figures["kept"] = str(model.selection)
    if len(model.probes) > 1:
        figures["scans"] = len(model.probes)
    for number, each in enumerate(model.probes, start=1):
        figures["probe_change" if number == 1 else f"probe_change_{number}"] = probe_change(
            each.probe, each.start_probe
        )
    return figures | {
        "seconds": seconds,
        "patterns_per_s": patterns / seconds,
    }


def probe_change(probe: NDArray[np.complex64], start: NDArray[np.complex64]) -> float:
    """Return |P - c·P0| / |P| with the complex factor c that fits best: 0 for a probe that only changed its scale.

    Args:
        probe: (modes, N, N) complex.
        start: (modes, N, N) complex.
    """
    refined, before = probe.astype(np.complex128), start.astype(np.complex128)
    norms = float(np.vdot(before, before).real * np.vdot(refined, refined).real)
    overlap = abs(complex(np.vdot(before, refined))) ** 2 / norms
    return math.sqrt(max(0.0, 1.0 - overlap))
