"""`ptycho live`: frames that are still being measured in, a picture that grows, the usual result at the end."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ptycho_adapters.archive_facts import find_model
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.run_request import RunRequest, add_run_options
from ptycho_adapters.command_line.scan_input import existing, naming, read_measured, warn_of
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.factory import commit, plan_inference
from ptycho_adapters.files import DetectorCheck
from ptycho_adapters.files.in_file import PatternsIn
from ptycho_adapters.shipped_weights import weights_path
from ptycho_core.config.knob import Effect
from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from ptycho_adapters.live import Picture
    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.config.payload import InferencePayload
    from ptycho_core.config.table import FieldInfo
    from ptycho_core.measurement.scan import Scan

HELP = "reconstruct a scan while it is being measured"
USAGE = "ptycho live FILE --like SCAN --output-dir FOLDER [--model-path FOLDER] [flags]"
_HINTS = MappingProxyType({"output_dir": "required", "model_path": "default: the weights in the package"})
_NOT_HERE: Final = frozenset({"test_data_file", "n_groups", "n_subsample", "devices"})
_FRAMES_AT, _PATIENCE_S = "entry/data/data", 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    stream = parser.add_argument_group("stream")
    stream.add_argument("source", metavar="FILE", help="HDF5 file that another process writes (SWMR)")
    stream.add_argument(
        "--like",
        metavar="SCAN",
        required=True,
        help="scan file of any format with the probe, the domain and the mask, and the positions by frame number "
        "unless --positions-at says where they come with the frames",
    )
    stream.add_argument("--frames-at", metavar="NAME", help=f"dataset of the frames (default: {_FRAMES_AT})")
    stream.add_argument("--positions-at", metavar="NAME", help="dataset (n, 2) of (y, x) in object pixels")
    stream.add_argument(
        "--expected-frames", metavar="N", type=int, help="end after so many (default: as many as known)"
    )
    stream.add_argument(
        "--patience-s", metavar="S", type=float, help=f"end after so long a silence (default: {_PATIENCE_S:g})"
    )
    add_run_options(parser, INFERENCE, shown=_is_shown, hints=_HINTS, detector_check=DetectorCheck.OFF)


def _is_shown(info: FieldInfo) -> bool:
    known = info.effect is not Effect.LEGACY and INFERENCE.reads(info) and info.key not in OF_ARCHIVE
    return known and info.key not in _NOT_HERE


def run(typed: Mapping[str, object]) -> None:
    """Reconstruct until the stream ends, then write the result and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system.
    """
    request = RunRequest.read(typed, INFERENCE, required=frozenset({"output_dir"}))
    source, like_path = Path(str(typed["source"])), Path(str(typed["like"]))
    payload = _plan(request, source, like_path)
    like = read_measured(like_path, request, payload)
    commit(payload)
    with profile_of(request):
        last = _follow(typed, source, like, payload)
    _finish(request, last, payload, {"source": source, "like": like_path})


def _plan(request: RunRequest, source: Path, like: Path) -> InferencePayload:
    folder = request.required_path("output_dir")
    existing(source, "Stream")
    said = [name for name in ("flip", "transpose") if request.view.get(name)]
    in_file = request.memory_map is not None or request.patterns_in is PatternsIn.FILE
    if said or request.print_config or in_file:
        named = "--flip, --transpose, --print-config, --memory-map and --patterns-in file"
        raise UsageError(f"live: {named} are not for streams")
    if request.detector_check is not DetectorCheck.OFF:
        # Frames left out would move the numbers of all that follow.
        raise UsageError(f"live: --detector-check {request.detector_check}: expected off; --mask names bad pixels")
    with request.resolving():
        payload = plan_inference(
            request.path("model_path"),
            existing(like, "Scan"),
            folder,
            cli=request.cli,
            file=request.file,
            all_patterns="as stored",
        )
    if payload.provenance["n_groups"] is not Layer.SCAN or payload.pt_inference_config.n_subsample is not None:
        raise UsageError("live: n_groups and n_subsample are not for streams: every frame takes part")
    if payload.execution_config.devices not in (1, "auto"):
        raise UsageError(f"live: devices: expected 1, found {payload.execution_config.devices}; leave it out")
    if payload.tf_inference_config.backend != "pytorch":
        raise UsageError("live: --backend tensorflow does not reconstruct streams; leave it out")
    return payload


def _follow(typed: Mapping[str, object], source: Path, like: Scan, payload: InferencePayload) -> Picture:
    from ptycho_adapters.live import SwmrSource, pictures  # noqa: PLC0415 - torch
    from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415

    named = payload.tf_inference_config.model_path
    model: TrainedModel | None = None if named == weights_path() else load_archive(find_model(named))
    own = typed.get("positions_at")
    expected = typed.get("expected_frames") or (None if own else like.n_patterns)
    with _ended_by_interrupt() as stopped, naming(source):
        stream = SwmrSource(
            path=source,
            frames_at=str(typed.get("frames_at") or _FRAMES_AT),
            positions_at=None if own is None else str(own),
            expected=None if expected is None else int(str(expected)),
            patience_s=float(str(typed.get("patience_s") or _PATIENCE_S)),
            stopped=stopped.is_set,
        )
        found: Picture | None = None
        for found in pictures(
            stream,
            like,
            model=model,
            inference_config=payload.pt_inference_config,
            execution_config=payload.execution_config,
        ):
            _show(found, payload)
    if found is None:
        raise RuntimeError("a stream gave no picture")
    if expected is not None and found.state.frames < int(str(expected)) and not stopped.is_set():
        console.warn(f"{source}: silent for too long: {found.state.frames} of {expected} frames came")
    return found


@contextmanager
def _ended_by_interrupt() -> Iterator[threading.Event]:
    """Let the first interrupt end the stream as the end of the scan does; a second one is as ever."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(_number: int, _frame: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _show(picture: Picture, payload: InferencePayload) -> None:
    """Say how far the stream is, and put the phase so far beside the results to come."""
    from ptycho_adapters.files.images.pictures import write_phase_png  # noqa: PLC0415 - matplotlib

    state, found = picture.state, picture.reconstruction
    if not picture.last:
        write_phase_png(
            found.object, found.coverage, payload.pt_inference_config.output_dir / "live.png", origin_px=found.origin_px
        )
    if not payload.execution_config.enable_progress_bar:
        return
    console.note(
        f"{state.frames} frames, {state.rate_per_s:.0f}/s, {state.missing} missing, {state.late} late, "
        f"{state.repeated} repeated, {state.unusable} unusable; "
        f"R-factor {found.metrics['r_factor']:.3f}, {picture.seconds:.2f} s"
    )


def _finish(request: RunRequest, last: Picture, payload: InferencePayload, inputs: Mapping[str, Path]) -> None:
    from ptycho_adapters.report.results import product_of, write_reconstruction  # noqa: PLC0415 - h5py
    from ptycho_adapters.report.summary import Summary  # noqa: PLC0415
    from ptycho_adapters.run import framework, model_for  # noqa: PLC0415

    result, state, scan = last.reconstruction, last.state, last.scan
    if scan is None:
        raise RuntimeError("a stream gave no last picture")
    warn_of(result.findings, inputs["source"])
    model = model_for(framework("pytorch"), payload.tf_inference_config.model_path, scan)
    summary = Summary(
        command="live",
        title=f"reconstructed {inputs['source']}: {state.frames} frames of {scan.N} px",
        figures={
            **result.metrics,
            "frames": state.frames,
            "frames_missing": state.missing,
            "frames_late": state.late,
            "frames_repeated": state.repeated,
            "frames_unusable": state.unusable,
            "seconds": sum(result.seconds.values()),
        },
        inputs=inputs,
        settings=dict(payload.overrides_applied),
        findings=result.findings,
    )
    product = product_of(result, model, scan, payload, findings=summary.findings)
    folder = request.required_path("output_dir")
    files = write_reconstruction(product, summary, folder)
    (folder / "live.png").unlink(missing_ok=True)
    console.tell(console.summary(summary.title, summary.figures, files))
