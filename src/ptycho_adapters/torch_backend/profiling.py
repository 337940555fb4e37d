"""Where the time of a run goes: torch's profiler, summed up over the parts that the package names.

A trace of all operations would outgrow the memory. So it is taken in pieces of a few seconds, between two stages or
steps of the run, and of each piece only the sums are kept: of every operation the time that no other one within it
took, under the innermost name around it.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerAction, ProfilerActivity
from torch.profiler import profile as torch_profile

from ptycho_adapters.plotting.profile import Profile
from ptycho_adapters.stages import STAGES, said_by
from ptycho_adapters.torch_backend.parts import PREFIX, WATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ptycho_adapters.stages import Value

_PIECE_S = 5.0
_OPERATIONS = ("cpu_op", "user_annotation", "cuda_runtime", "cuda_driver")
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_OTHER, _PIECE = "other operations", "ProfilerStep"
_KNOWN = (
    (("aten::fft_", "aten::_fft_"), "transforms"),
    (("autograd::engine",), "gradients"),
    (("Optimizer.",), "optimiser"),
    (("cuda", "cu"), "calls to the device"),
)
_ON_DISK = frozenset({"reading", "files"})
_MEGA = 1e-6  # a trace counts microseconds


class Watch:
    """What has been seen of a run so far."""

    def __init__(self) -> None:
        self._host: defaultdict[str, float] = defaultdict(float)
        self._device: defaultdict[str, float] = defaultdict(float)
        self._stages: list[Mapping[str, Value]] = []
        self._watching: list[tuple[float, float]] = []  # until when, and how long
        self._began_s = self._piece_began_s = time.perf_counter()
        self._wall_s = 0.0
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profiler = torch_profile(
            activities=activities, schedule=lambda _: ProfilerAction.RECORD_AND_SAVE, on_trace_ready=self._take
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch what happens within."""
        handler, logger = _Listener(self), logging.getLogger(STAGES)
        level, token = logger.level, WATCHED.set(True)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            with self._profiler:
                self._began_s = self._piece_began_s = time.perf_counter()
                yield
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self._wall_s = time.perf_counter() - self._began_s - self._watching_s(self._began_s)
        finally:
            WATCHED.reset(token)
            logger.setLevel(level)
            logger.removeHandler(handler)

    def heard(self, said: Mapping[str, Value]) -> None:
        """Take down a stage that has ended, and the trace if there is a piece of it."""
        if "seconds" in said:
            taken_s = float(said["seconds"])
            own_s = taken_s - self._watching_s(time.perf_counter() - taken_s)
            self._stages.append({**said, "seconds": max(0.0, own_s)})
        if time.perf_counter() - self._piece_began_s > _PIECE_S:
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*Profiler clears events", category=UserWarning)
                self._profiler.step()
            self._piece_began_s = time.perf_counter()
            self._watching.append((self._piece_began_s, self._piece_began_s - started))

    def _watching_s(self, since_s: float) -> float:
        return sum(seconds for until_s, seconds in self._watching if until_s > since_s)

    def profile(self) -> Profile:
        """Give what was seen."""
        on_disk = sum(float(each["seconds"]) for each in self._stages if each["stage"] in _ON_DISK)
        host = {**self._host, "reading and writing": on_disk}
        left = max(0.0, self._wall_s - sum(host.values()))
        return Profile(
            wall_s=self._wall_s,
            watching_s=self._watching_s(self._began_s),
            host_s=_largest_first({**host, "between operations": left}),
            device_s=_largest_first(self._device),
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            stages=tuple(self._stages),
        )

    def _take(self, profiler: torch_profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(trace))
            events: list[dict[str, Any]] = json.loads(trace.read_bytes())["traceEvents"]
        threads: defaultdict[object, list[dict[str, Any]]] = defaultdict(list)
        for event in events:
            if event.get("cat") in _OPERATIONS and not event["name"].startswith(_PIECE):
                threads[event["tid"]].append(event)
        names: dict[object, str] = {}
        for thread in threads.values():
            for name, seconds in own_times(thread, names):
                self._host[name] += seconds
        for event in events:
            if event.get("cat") in _ON_DEVICE:
                self._device[names.get(event["args"].get("External id"), _OTHER)] += _MEGA * event["dur"]


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch what happens within; ask the watch for its profile afterwards."""
    watch = Watch()
    with watch.running():
        yield watch


def own_times(events: Iterable[Mapping[str, Any]], names: dict[object, str]) -> Iterator[tuple[str, float]]:
    """Give the seconds of each operation of a thread that none within it took, with the part that they belong to.

    Args:
        events: of a trace, with `name`, `ts`, `dur` and `args`, one within or after another.
        names: takes down the part of each operation by its `External id`.
    """
    open_: list[list[Any]] = []  # end, part, seconds of its own so far
    for event in sorted(events, key=lambda each: (each["ts"], -each["dur"])):
        while open_ and open_[-1][0] <= event["ts"]:
            _, part, own = open_.pop()
            yield part, max(0.0, own)
        seconds = _MEGA * event["dur"]
        if open_:
            open_[-1][2] -= seconds
        part = _part_of(event["name"], open_[-1][1] if open_ else _OTHER)
        names[event.get("args", {}).get("External id")] = part
        open_.append([event["ts"] + event["dur"], part, seconds])
    for _, part, own in open_:
        yield part, max(0.0, own)


def _part_of(name: str, around: str) -> str:
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    return next((part for starts, part in _KNOWN if name.startswith(starts)), around)


def _largest_first(seconds: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


class _Listener(logging.Handler):
    """Hears stages end."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on what is said."""
        self._watch.heard(said_by(record))
