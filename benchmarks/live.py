"""Whether live reconstruction keeps up with a detector: `python benchmarks/live.py [--help]`.

Another process writes frames of 64 px at a steady rate, into an HDF5 file (SWMR) or a socket (as a DECTRIS detector,
bitshuffle and LZ4). This one reconstructs them as `ptycho live` does, pictures and their drawing included, without the
last reconstruction. The writer notes when each frame was there; clocks are those of the machine.

    python benchmarks/live.py --rate 200 --seconds 30
    python benchmarks/live.py --long 720000

`--long` gives so many frames as fast as they are taken, and looks at memory: one in fifty of them is reconstructed.
720,000 are an hour of 200 frames per second.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from harness import Figures, in_fresh_process, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.synchronize import Event

    from numpy.typing import NDArray

    from ptycho_adapters.live.sources import Source
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.measurement.stream import FrameBatch, StreamState

    Send = Callable[[int, int], None]

_FRAMES_AT, _SIZE_PX, _STEP_PX, _TICK_S = "entry/data/data", 64, 5, 0.02
_FIRST = 16  # frames of the first picture
_LONG_BATCH, _LOOKS, _PICTURE_EVERY = 256, 12, 100.0  # batches of frames between two pictures
_REPEATED_PX = 256


def keeping_up(*, source: str, rate: float, seconds: float) -> Figures:
    """Follow a writer at a rate.

    Args:
        source: `hdf5` or `zmq`.
        rate: frames per second.
        seconds: for so long.
    """
    from ptycho_adapters.live.drawing import Drawing  # noqa: PLC0415 - in the fresh process only

    scan = _scan(int(rate * seconds))
    context = multiprocessing.get_context("spawn")
    go, times, port = context.Event(), context.RawArray("d", scan.n_patterns), _free_port()
    with tempfile.TemporaryDirectory(prefix="live_") as name:
        folder = Path(name)
        np.save(folder / "patterns.npy", scan.patterns)
        writer = context.Process(target=_write, args=(source, folder, port, rate, go, times), daemon=True)
        writer.start()
        while not (folder / "ready").exists():
            time.sleep(0.05)
        with Drawing(folder / "live.png", with_coverage=True) as drawing:
            found = _followed(_source_of(source, folder, port), scan, drawing.show, go)
        writer.join()
        written = np.frombuffer(times)
    return {
        "source": source,
        "asked_per_s": rate,
        "load_average": os.getloadavg(),
        **_figures(found, written),
    }


def remembering(*, frames: int) -> Figures:
    """Take frames as fast as they can be taken and look at memory."""
    from ptycho_adapters.live import pictures  # noqa: PLC0415 - in the fresh process only
    from ptycho_adapters.live.engine import Watch  # noqa: PLC0415
    from ptycho_core.measurement.stream import Pace  # noqa: PLC0415

    scan, looks = _scan((_REPEATED_PX // _STEP_PX) ** 2), list[Figures]()
    with tempfile.TemporaryDirectory(prefix="live_") as name:
        clock = _Counting()
        watch = Watch(pace=Pace(every_s=_PICTURE_EVERY, rest=0.0), clock=clock, folder=Path(name))
        source = _again_and_again(scan, frames, looks, clock)
        with suppress(_Enough):
            for picture in pictures(source, scan, execution_config=_execution(), watch=watch):
                looks[-1]["reconstructed"] = picture.state.reconstructed
    return {"frames": frames, "load_average": os.getloadavg(), "looks": looks}


class _Enough(Exception):  # noqa: N818 - ends a stream without its last reconstruction
    """The frames are over."""


class _Counting:
    """A clock that goes on by a second with each batch."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _again_and_again(scan: Scan, frames: int, looks: list[Figures], clock: _Counting) -> Iterator[FrameBatch]:
    from ptycho_core.measurement.stream import FrameBatch  # noqa: PLC0415

    started, look_every = time.process_time(), max(1, frames // _LONG_BATCH // _LOOKS)
    for turn, first in enumerate(range(0, frames, _LONG_BATCH)):
        numbers = np.arange(first, min(first + _LONG_BATCH, frames))
        places = numbers % scan.n_patterns
        clock.now_s += 1.0
        if turn % look_every == 0:
            at = {"frames": first, "processor_s": time.process_time() - started}
            looks.append({**at, "anonymous_mb": _anonymous_mb()})
        yield FrameBatch(numbers=numbers, patterns=scan.patterns[places], positions_px=scan.positions_px[places])
    raise _Enough


def _scan(frames: int) -> Scan:
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    side = int(np.ceil(np.sqrt(frames))) * _STEP_PX + _SIZE_PX + 2
    return simulate(SimulationConfig(N=_SIZE_PX, object_size_px=side, step_px=_STEP_PX, photons=1e5))


def _execution() -> object:
    from ptycho_core.config import PyTorchExecutionConfig  # noqa: PLC0415

    return PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)


def _source_of(source: str, folder: Path, port: int) -> Source:
    from ptycho_adapters.live import DetectorSource, SwmrSource, Window  # noqa: PLC0415

    if source == "zmq":
        return DetectorSource(address=f"tcp://127.0.0.1:{port}", window=Window(size_px=_SIZE_PX))
    return SwmrSource(path=folder / "stream.h5", frames_at=_FRAMES_AT)


def _followed(source: Source, scan: Scan, show: Callable[..., None], go: Event) -> Figures:
    from ptycho_adapters.live import pictures  # noqa: PLC0415
    from ptycho_adapters.live.engine import Watch  # noqa: PLC0415
    from ptycho_core.measurement.stream import FrameBatch  # noqa: PLC0415

    heard: list[tuple[float, int]] = []
    made: list[tuple[float, int]] = []

    def hear(state: StreamState) -> None:
        heard.append((time.monotonic(), state.backlog + state.waiting))

    started = [0.0]

    def begun() -> Iterator[FrameBatch]:
        go.set()  # the frames begin when everything stands
        started[0] = time.process_time()
        yield from source
        while True:  # what is left is worked off, and the last reconstruction is none of this
            yield FrameBatch.empty(_SIZE_PX)

    following = pictures(begun(), scan, execution_config=_execution(), watch=Watch(heard=hear))
    for picture in following:
        show(picture.reconstruction)
        made.append((time.monotonic(), picture.state.reconstructed))
        if picture.state.reconstructed >= scan.n_patterns:
            break
    return {"heard": heard, "made": made, "processor_s": time.process_time() - started[0]}


def _figures(found: Figures, written: NDArray[np.float64]) -> Figures:
    made, heard = np.array(found["made"]), np.array(found["heard"])
    counts = made[:, 1].astype(int)
    before = np.concatenate([[0], counts[:-1]])
    newest, oldest = made[:, 0] - written[counts - 1], made[:, 0] - written[before]
    lags = np.searchsorted(written, made[:, 0]) - counts
    thirds = np.array_split(lags, 3)
    return {
        "frames": len(written),
        "written_per_s": (len(written) - 1) / (written[-1] - written[0]),
        "pictures": len(made),
        "first_picture_s": made[0, 0] - written[_FIRST - 1],
        "behind_at_end_s": made[-1, 0] - written[-1],
        "newest_frame_s": _spread(newest),
        "oldest_frame_s": _spread(oldest),
        "not_in_picture": {"by_thirds": [float(third.mean()) for third in thirds], "most": int(lags.max())},
        "most_backlog_of_state": int(heard[:, 1].max()),
        "processor_s_per_frame": found["processor_s"] / len(written),
        "anonymous_mb": _anonymous_mb(),
        "course": [[round(at - written[0], 2), int(n)] for at, n in zip(made[:, 0], lags, strict=True)],
    }


def _spread(values: NDArray[np.float64]) -> Figures:
    return {f"p{share}": float(np.percentile(values, share)) for share in (50, 90, 100)}


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _free_port() -> int:
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return int(any_free.getsockname()[1])


def _write(source: str, folder: Path, port: int, rate: float, go: Event, times: Sequence[float]) -> None:
    """Write frames when they are due, in the process of a detector."""
    patterns, there = np.load(folder / "patterns.npy"), np.frombuffer(times)
    send, end = (_into_socket if source == "zmq" else _into_file)(patterns, folder, port)
    (folder / "ready").touch()
    go.wait()
    started, sent = time.monotonic(), 0
    while sent < len(patterns):
        due = min(len(patterns), int((time.monotonic() - started) * rate))
        if due > sent:
            send(sent, due)
            there[sent:due] = time.monotonic()
            sent = due
        time.sleep(_TICK_S)
    end()


def _into_file(patterns: NDArray[np.generic], folder: Path, _port: int) -> tuple[Send, Callable[[], None]]:
    file = h5py.File(folder / "stream.h5", "w", libver="latest")
    frame = patterns.shape[1:]
    data = file.create_dataset(
        _FRAMES_AT, (0, *frame), maxshape=(None, *frame), chunks=(1, *frame), dtype=patterns.dtype
    )
    file.swmr_mode = True

    def send(first: int, end: int) -> None:
        data.resize(end, axis=0)
        data[first:end] = patterns[first:end]
        data.flush()

    return send, file.close


def _into_socket(patterns: NDArray[np.generic], _folder: Path, port: int) -> tuple[Send, Callable[[], None]]:
    import zmq  # noqa: PLC0415 - an extra

    context = zmq.Context()
    push = context.socket(zmq.PUSH)
    push.bind(f"tcp://127.0.0.1:{port}")
    contents = _compressed(patterns)
    told = {"htype": "dimage_d-1.0", "shape": [_SIZE_PX, _SIZE_PX], "type": str(patterns.dtype)}
    second = json.dumps({**told, "encoding": f"bs{8 * patterns.dtype.itemsize}-lz4<"}).encode()

    def send(first: int, end: int) -> None:
        for number in range(first, end):
            head = json.dumps({"htype": "dimage-1.0", "series": 1, "frame": number}).encode()
            push.send_multipart([head, second, contents[number], b'{"htype":"dconfig-1.0"}'])

    def ended() -> None:
        push.send(b'{"htype":"dseries_end-1.0","series":1}')
        context.destroy(linger=10_000)

    return send, ended


def _compressed(patterns: NDArray[np.generic]) -> list[bytes]:
    import hdf5plugin  # noqa: PLC0415 - an extra

    with h5py.File("frames", "w", driver="core", backing_store=False) as file:
        chunks = (1, *patterns.shape[1:])
        data = file.create_dataset("frames", data=patterns, chunks=chunks, **hdf5plugin.Bitshuffle(cname="lz4"))
        return [bytes(data.id.read_direct_chunk((number, 0, 0))[1]) for number in range(len(patterns))]


def main() -> None:
    """Measure what is asked for and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", choices=["hdf5", "zmq"], default=["hdf5", "zmq"])
    parser.add_argument("--rate", type=float, default=200.0, help="frames per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--long", type=int, metavar="FRAMES", help="look at memory over so many frames instead")
    asked = parser.parse_args()
    if asked.long:
        write("live_long", [in_fresh_process(remembering, {"frames": asked.long})])
        return
    measure = partial(_measured, rate=asked.rate, seconds=asked.seconds)
    write("live", [measure(source) for source in asked.sources])


def _measured(source: str, *, rate: float, seconds: float) -> Figures:
    # A process that a pool makes may have no children of its own.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_figures, args=(sender, source, rate, seconds))
    process.start()
    sender.close()
    try:
        found: Figures = receiver.recv()
    finally:
        process.join()
    return found


def _send_figures(sender: object, source: str, rate: float, seconds: float) -> None:
    sender.send(keeping_up(source=source, rate=rate, seconds=seconds))


if __name__ == "__main__":
    main()
