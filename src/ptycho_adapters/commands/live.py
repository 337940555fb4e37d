"""`ptycho live`: frames that are still being measured in, a picture that grows, the usual result at the end."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ptycho_adapters.archive_facts import find_model
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.default_finish import FINISH_BY_DEFAULT, HINT, affordable
from ptycho_adapters.command_line.profile_option import profile_of
from ptycho_adapters.command_line.run_request import RunRequest, add_run_options
from ptycho_adapters.command_line.scan_input import existing, naming, read_measured, warn_of
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_adapters.factory import commit, plan_inference
from ptycho_adapters.files import DetectorCheck
from ptycho_adapters.files.in_file import PatternsIn
from ptycho_adapters.shipped_weights import weights_path
from ptycho_core.config.knob import Effect
from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from ptycho_adapters.live import Picture
    from ptycho_adapters.live.onlookers import Onlookers, PageAddress
    from ptycho_adapters.live.window import Window
    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.config.payload import InferencePayload
    from ptycho_core.config.table import FieldInfo
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.measurement.stream import FrameBatch

HELP = "reconstruct a scan while it is being measured"
USAGE = "ptycho live SOURCE --like SCAN --output-dir FOLDER [--model-path FOLDER] [flags]"
_HINTS = MappingProxyType(
    {"output_dir": "required", "model_path": "default: the weights in the package", "finish": HINT}
)
_NOT_HERE: Final = frozenset({"test_data_file", "n_groups", "n_subsample", "devices"})
_FRAMES_AT, _PATIENCE_S = "entry/data/data", 30.0
_PAGE_HOST, _PAGE_PORT = "127.0.0.1", 8750
_PICTURE = "live.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    stream = parser.add_argument_group("stream")
    stream.add_argument(
        "source",
        metavar="SOURCE",
        help="HDF5 file that another process writes (SWMR), or tcp://HOST:PORT of a DECTRIS detector",
    )
    stream.add_argument(
        "--like",
        metavar="SCAN",
        required=True,
        help="scan file of any format with the probe, the domain and the mask, and the positions by frame number "
        "unless --positions-at says where they come with the frames",
    )
    stream.add_argument("--frames-at", metavar="NAME", help=f"dataset of the frames (default: {_FRAMES_AT})")
    stream.add_argument(
        "--centre", metavar="ROW,COLUMN", help="pixel of the beam: cut a square of the probe's size about it"
    )
    stream.add_argument("--positions-at", metavar="NAME", help="dataset (n, 2) of (y, x) in object pixels")
    stream.add_argument(
        "--expected-frames", metavar="N", type=int, help="end after so many (default: as many as known)"
    )
    stream.add_argument(
        "--patience-s", metavar="S", type=float, help=f"end after so long a silence (default: {_PATIENCE_S:g})"
    )
    page = parser.add_argument_group("page")
    page.add_argument(
        "--page",
        metavar="PORT",
        type=int,
        nargs="?",
        const=_PAGE_PORT,
        help=f"show the run on a web page; its address is printed (port: {_PAGE_PORT}; 0 for any that is free)",
    )
    page.add_argument(
        "--page-host",
        metavar="HOST",
        help=f"where the page listens (default: {_PAGE_HOST}, for this machine alone; others are not encrypted)",
    )
    add_run_options(parser, INFERENCE, shown=_is_shown, hints=_HINTS, detector_check=DetectorCheck.OFF)


def _is_shown(info: FieldInfo) -> bool:
    known = info.effect is not Effect.LEGACY and INFERENCE.reads(info) and info.key not in OF_ARCHIVE
    return known and info.key not in _NOT_HERE


def run(typed: Mapping[str, object]) -> None:
    """Reconstruct until the stream ends, then write the result and report.

    Raises:
        PtychoError: the user's input cannot be used.
        OSError: from the file system, or the page cannot be served.
    """
    from ptycho_adapters.live.onlookers import looking_on  # noqa: PLC0415 - with numpy and what streams need
    from ptycho_adapters.live.status import Status  # noqa: PLC0415

    request = RunRequest.read(typed, INFERENCE, required=frozenset({"output_dir"}))
    source, like_path = str(typed["source"]), Path(str(typed["like"]))
    page = _page_of(typed)
    payload = _plan(request, typed, like_path)
    like = read_measured(like_path, request, payload)
    window = _window_of(typed, like)
    commit(payload)
    folder, stopped = request.required_path("output_dir"), threading.Event()
    first = Status(source=source, folder=str(folder), expected=_expected(typed, like))
    with ExitStack() as stack:
        onlookers = _entered(stack, looking_on(first, folder / _PICTURE, page=page, stop=stopped.set))
        stream = _stream_of(typed, window, first.expected, stopped)
        with profile_of(request), naming(source), _ended_by_interrupt(stopped), onlookers.drawing:
            last = _follow(stream, like, payload, onlookers)
        if first.expected is not None and last.state.frames < first.expected and not stopped.is_set():
            console.warn(f"{source}: the stream ended early: {last.state.frames} of {first.expected} frames came")
        _finish(request, last, payload, {"source": source, "like": like_path})


def _entered(stack: ExitStack, looking: AbstractContextManager[Onlookers]) -> Onlookers:
    """Let everybody look on, and say where."""
    try:
        onlookers = stack.enter_context(looking)
    except OSError as error:
        raise UsageError(f"live: --page: {error.strerror}; --page 0 takes any port that is free") from None
    if onlookers.url is not None:
        console.confide(f"the page: {onlookers.url}")
    return onlookers


def _plan(request: RunRequest, typed: Mapping[str, object], like: Path) -> InferencePayload:
    folder = request.required_path("output_dir")
    _check_source(typed)
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
            command=FINISH_BY_DEFAULT,
        )
    if payload.provenance["n_groups"] is not Layer.SCAN or payload.pt_inference_config.n_subsample is not None:
        raise UsageError("live: n_groups and n_subsample are not for streams: every frame takes part")
    if payload.execution_config.devices not in (1, "auto"):
        raise UsageError(f"live: devices: expected 1, found {payload.execution_config.devices}; leave it out")
    if payload.tf_inference_config.backend != "pytorch":
        raise UsageError("live: --backend tensorflow does not reconstruct streams; leave it out")
    return payload


def _check_source(typed: Mapping[str, object]) -> None:
    """See to it that there is such a source, and what reads it."""
    from ptycho_adapters.live.extra import module  # noqa: PLC0415 - numpy

    source = str(typed["source"])
    if not _is_address(source):
        existing(Path(source), "Stream")
        return
    said = [kebab(name) for name in ("frames_at", "positions_at") if typed.get(name)]
    if said:
        raise UsageError(f"live: {' and '.join(said)}: a detector sends frames alone; their positions come from --like")
    module("zmq")


def _is_address(source: str) -> bool:
    return "://" in source


def _page_of(typed: Mapping[str, object]) -> PageAddress | None:
    from ptycho_adapters.live.extra import module  # noqa: PLC0415 - numpy
    from ptycho_adapters.live.onlookers import PageAddress  # noqa: PLC0415

    port, host = typed.get("page"), str(typed.get("page_host") or _PAGE_HOST)
    if port is None:
        if typed.get("page_host"):
            raise UsageError("live: --page-host without --page: add --page")
        return None
    if not 0 <= int(str(port)) < 1 << 16:
        raise UsageError(f"live: --page {port}: expected a port from 0 to 65535")
    module("aiohttp")
    return PageAddress(host=host, port=int(str(port)))


def _window_of(typed: Mapping[str, object], like: Scan) -> Window:
    from ptycho_adapters.live.window import Window  # noqa: PLC0415 - numpy

    text = typed.get("centre")
    try:
        return Window.read(None if text is None else str(text), like.N)
    except ValueError:
        raise UsageError(f"live: --centre {text}: expected ROW,COLUMN in whole pixels, such as 512,514") from None


def _expected(typed: Mapping[str, object], like: Scan) -> int | None:
    said = typed.get("expected_frames") or (None if typed.get("positions_at") else like.n_patterns)
    return None if said is None else int(str(said))


def _stream_of(
    typed: Mapping[str, object], window: Window, expected: int | None, stopped: threading.Event
) -> Iterable[FrameBatch]:
    from ptycho_adapters.live import DetectorSource, SwmrSource  # noqa: PLC0415 - numpy

    source, own = str(typed["source"]), typed.get("positions_at")
    patience_s = float(str(typed.get("patience_s") or _PATIENCE_S))
    if _is_address(source):
        return DetectorSource(
            address=source, window=window, expected=expected, patience_s=patience_s, stopped=stopped.is_set
        )
    return SwmrSource(
        path=Path(source),
        frames_at=str(typed.get("frames_at") or _FRAMES_AT),
        window=window,
        positions_at=None if own is None else str(own),
        expected=expected,
        patience_s=patience_s,
        stopped=stopped.is_set,
    )


def _follow(stream: Iterable[FrameBatch], like: Scan, payload: InferencePayload, onlookers: Onlookers) -> Picture:
    from ptycho_adapters.live import pictures  # noqa: PLC0415 - torch
    from ptycho_adapters.live.engine import Watch  # noqa: PLC0415
    from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415

    named = payload.tf_inference_config.model_path
    model: TrainedModel | None = None if named == weights_path() else load_archive(find_model(named))
    law_known = model is None or model.prior_law is not None
    payload = affordable(payload, like, law_known=law_known)
    found: Picture | None = None
    for found in pictures(
        onlookers.until_the_end(stream),
        like,
        model=model,
        inference_config=payload.pt_inference_config,
        execution_config=payload.execution_config,
        watch=Watch(heard=onlookers.board.heard, folder=payload.pt_inference_config.output_dir),
    ):
        onlookers.see(found)
        _tell(found, payload)
    if found is None:
        raise RuntimeError("a stream gave no picture")
    return found


@contextmanager
def _ended_by_interrupt(stopped: threading.Event) -> Iterator[None]:
    """Let the first interrupt end the stream as the end of the scan does; a second one is as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(_number: int, _frame: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(picture: Picture, payload: InferencePayload) -> None:
    """Say how far the stream is."""
    state, found = picture.state, picture.reconstruction
    if not payload.execution_config.enable_progress_bar:
        return
    console.note(
        f"{state.frames} frames, {state.rate_per_s:.0f}/s, {state.missing} missing, {state.late} late, "
        f"{state.repeated} repeated, {state.unusable} unusable; "
        f"R-factor {found.metrics['r_factor']:.3f}, {picture.seconds:.2f} s"
    )


def _finish(request: RunRequest, last: Picture, payload: InferencePayload, inputs: Mapping[str, Path | str]) -> None:
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
    (folder / _PICTURE).unlink(missing_ok=True)
    console.tell(console.summary(summary.title, summary.figures, files))
