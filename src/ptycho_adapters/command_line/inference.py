"""What the commands that reconstruct share: flags, plan, model, run and summary."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.archive_facts import find_archive, find_model, read_archive_config
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.run_request import add_run_options
from ptycho_adapters.command_line.scan_input import existing, naming, read_measured
from ptycho_adapters.command_line.show_config import show_settings
from ptycho_adapters.common.model import ModelRecord
from ptycho_adapters.factory import plan_inference, with_all_patterns
from ptycho_adapters.legacy_archives import LEGACY_NOTICE
from ptycho_adapters.run import framework
from ptycho_adapters.run import run as run_on_backend
from ptycho_adapters.shipped_weights import weights_path
from ptycho_adapters.stages import stage
from ptycho_core.config.knob import Effect
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ArchiveFacts, InferencePayload
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE
from ptycho_core.measurement.scan import Scan
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from ptycho_adapters.command_line.run_request import RunRequest
    from ptycho_adapters.common.model import ScanProbe
    from ptycho_core.config.table import FieldInfo

HINTS: Mapping[str, str] = MappingProxyType(
    {
        "model_path": "default: the weights in the package, under the scan's own probe",
        "output_dir": "required",
        "n_groups": "default: all patterns",
    }
)
"""What the help says instead of a default."""


def add_inference_options(
    parser: argparse.ArgumentParser,
    hints: Mapping[str, str],
    *,
    left_out: frozenset[str] = frozenset(),
    own: Mapping[str, type[argparse.Action] | None],
) -> None:
    """Give a parser the flags of a reconstruction.

    Args:
        parser: of the command.
        hints: what the help says instead of a default, by key.
        left_out: keys that the help does not show.
        own: by key, how the command keeps what is typed after its flag; None where it has that flag already.
    """

    def shown(info: FieldInfo) -> bool:
        # What describes the model comes with it.
        described = info.effect is Effect.LEGACY or info.key in OF_ARCHIVE or info.key in left_out
        return INFERENCE.reads(info) and not described

    add_run_options(parser, INFERENCE, shown=shown, hints=hints, own=own)


def plan_for(request: RunRequest, folder: Path, defaults: Mapping[str, object]) -> InferencePayload:
    """Resolve what was asked for, so that a wrong flag is found before a long read; nothing is written.

    Without a number of groups, all patterns are meant, as many as the file's header says.

    Args:
        request: what the command was told.
        folder: for everything that is written.
        defaults: the command's own.

    Raises:
        UsageError: no scan was given.
        FileNotFoundError: there is no such model or scan.
        ArchiveError: the model cannot be read.
        ScanFileError: the file is no scan.
        ConfigError: settings cannot be used, in terms of flags.
    """
    source = request.required_path("test_data_file")
    with request.resolving():
        return plan_inference(
            request.path("model_path"),
            existing(source, "Test data"),
            folder,
            cli=request.cli,
            file=request.file,
            all_patterns="as stored",
            command=defaults,
        )


@contextmanager
def silent_on_empty_archives() -> Iterator[None]:
    """Keep back the warning that an archive is empty: a run refuses it, and says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* is empty: taking the facts", category=UserWarning)
        yield


def show_inference(request: RunRequest, defaults: Mapping[str, object]) -> None:
    """Print the settings, as `--print-config` asks; those of a scan where one is given."""
    model, source = request.path("model_path"), request.path("test_data_file")
    if source is not None:
        show_settings(request, plan_for(request, request.path("output_dir") or Path(), defaults))
        return
    facts: dict[Layer, Mapping[str, object]] = {Layer.COMMAND: defaults}
    if model is not None:
        facts[Layer.ARCHIVE] = ArchiveFacts(path=model, training=read_archive_config(find_archive(model))).layer()
    with request.resolving():
        show_settings(request, None, facts)


class Models:
    """The model of some reconstructions, loaded when it is first needed and once."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, Path], ModelRecord] = {}

    def give(self, payload: InferencePayload, archive: Path | None, scan: Scan) -> tuple[ModelRecord, Path]:
        """Return the model of an archive, or the package's own for the scan; and its file.

        Args:
            payload: names the backend.
            archive: that was named; None for the package's own.
            scan: to reconstruct.

        Raises:
            ArchiveError: it cannot be read.
            DependencyError: the backend is not installed.
        """
        name = payload.tf_inference_config.backend
        if archive is None:
            return framework(name).generalist_for(scan), weights_path()
        if (name, archive) not in self._loaded:
            with warnings.catch_warnings():
                # The plan has said it.
                warnings.filterwarnings("ignore", message=f".*{re.escape(LEGACY_NOTICE)}", category=UserWarning)
                self._loaded[name, archive] = framework(name).load_archive(archive)
        return self._loaded[name, archive], archive


@attrs.frozen(kw_only=True, eq=False)
class ReadScan:
    """A scan that is ready to be reconstructed.

    Attributes:
        source: its file.
        scan: as read.
        payload: settings for as many patterns as it holds.
        model: to reconstruct it with.
        model_path: the file of that.
    """

    source: Path
    scan: Scan
    payload: InferencePayload
    model: ModelRecord
    model_path: Path


def read_for(request: RunRequest, payload: InferencePayload, models: Models) -> ReadScan:
    """Read the scan of a plan, and have its model ready.

    Raises:
        ScanFileError: the file is no scan, or its patterns are not of the model's size.
        ArchiveError: the model cannot be read.
        DependencyError: the backend is not installed.
    """
    source, named = request.required_path("test_data_file"), request.path("model_path")
    archive = None if named is None else find_model(named)
    scan = read_measured(source, request, payload)
    with stage("model"):
        model, path = models.give(payload, archive, scan)
    whole = with_all_patterns(payload, scan.n_patterns)
    return ReadScan(source=source, scan=scan, payload=whole, model=model, model_path=path)


def reconstruct_read(ready: ReadScan) -> Reconstruction:
    """Reconstruct a scan that was read.

    Raises:
        PtychoError: scan, model and settings do not go together, or do not fit into the memory.
    """
    scan, payload = ready.scan, ready.payload
    if payload.execution_config.enable_progress_bar:
        console.note(f"reconstructing {scan.n_patterns} patterns of {scan.N} px")
    with naming(ready.source):
        _, _, results = run_on_backend(payload, scan, model=ready.model)
    result = results["reconstruction"]
    if not isinstance(result, Reconstruction):
        raise TypeError(f"expected a reconstruction, found a {type(result).__name__}")
    return result


def title_of(ready: ReadScan, result: Reconstruction) -> str:
    """Return one line about what was done."""
    return f"reconstructed {ready.source}: {len(result.pattern_indices)} patterns of {ready.scan.N} px"


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
