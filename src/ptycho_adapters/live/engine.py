"""Pictures of a stream: frames are added to an object as they come, and all are reconstructed when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.live.store import FrameStore
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.record import evolve
from ptycho_core.measurement.scan import MeasurementDomain, Scan
from ptycho_core.measurement.stream import Pace, StreamState
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ptycho_adapters.torch_backend import RunningReconstruction, TrainedModel
    from ptycho_core.measurement.stream import FrameBatch

_MOST_AT_ONCE = 512  # frames of a picture, so that a long backlog is shown as it is worked off
_MOST_AT_FIRST = 64  # those of the first one, so that it comes soon
_RATED = 1024  # frames that an R-factor is of
# Frames before the first ones: side of their raster, its steps, light.
_WARM_SIDE, _WARM_STEP_PX, _WARM_COUNTS = 4, 8.0, 1e6


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """A reconstruction of the frames so far.

    Attributes:
        reconstruction: the result; its `r_factor` is that of the latest frames when they came, or of all at the end.
        state: of the stream by then.
        seconds: that it took.
        scan: the frames that it was made of, once the stream has ended and all that was asked for was done.
    """

    reconstruction: Reconstruction
    state: StreamState
    seconds: float
    scan: Scan | None = None

    @property
    def last(self) -> bool:
        """Whether the stream has ended."""
        return self.scan is not None


def reconstruct_stream(
    frames: Iterable[FrameBatch],
    like: Scan,
    *,
    model: TrainedModel | None = None,
    inference_config: TorchInferenceConfig | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
) -> Iterator[Reconstruction]:
    """Reconstruct a scan while its frames arrive.

    Args:
        frames: batches, with empty ones as time goes by; the end of them is that of the scan.
        like: a scan with the probe, the mask, the domain and the positions of the frames; its patterns are not looked
            at. Batches that bring their own positions do not need those.
        model: trained on such scans; by default the package's network.
        inference_config: how the last reconstruction is made, its finish included. Before it, each
            frame is passed when it comes and once more with its later neighbours, under the probe as it is.
        execution_config: device, precision, batch size.

    Yields:
        A reconstruction whenever frames have been added to it; the last one is made anew, of all.

    Raises:
        ScanError: the frames are no scan, or there is no position for one.
        DependencyError: the packages of the torch backend are not installed, or the device is not there.
    """
    for picture in pictures(
        frames, like, model=model, inference_config=inference_config, execution_config=execution_config
    ):
        yield picture.reconstruction


@attrs.frozen(kw_only=True, eq=False)
class Watch:
    """What is around a stream: who looks on, what time is, where frames can be kept.

    Attributes:
        heard: told the state of the stream after each batch of the source, empty ones too.
        pace: when frames are added to the object.
        clock: gives seconds.
        folder: on a disk, for the frames of a long stream; None to keep all of them in memory.
    """

    heard: Callable[[StreamState], None] = lambda _: None
    pace: Pace = attrs.field(factory=Pace)
    clock: Callable[[], float] = time.monotonic
    folder: Path | None = None


def pictures(
    frames: Iterable[FrameBatch],
    like: Scan,
    *,
    model: TrainedModel | None = None,
    inference_config: TorchInferenceConfig | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    watch: Watch | None = None,
) -> Iterator[Picture]:
    """Reconstruct as `reconstruct_stream` does, and say with each result what is known of the stream.

    Args:
        frames: see there.
        like: see there.
        model: see there.
        inference_config: see there.
        execution_config: see there.
        watch: who looks on.
    """
    from ptycho_adapters.torch_backend.execution import cpu_threads  # noqa: PLC0415 - torch

    defaults = TorchInferenceConfig() if model is None else model.inference_defaults
    settings, watch = inference_config or defaults, watch or Watch()
    execution = execution_config or PyTorchExecutionConfig()
    draw = _Draw(FrameStore(like, watch.folder), model, execution, settings)
    clock, ready_s, took_s = watch.clock, 0.0, 0.0
    with cpu_threads(execution.num_threads):
        draw.warm_up(like)
        for batch in frames:
            now_s = clock()
            draw.store.add(batch, now_s)
            if watch.pace.due(draw.store.state, now_s - ready_s, took_s) and draw.add():
                took_s, ready_s = clock() - now_s, clock()
                yield Picture(reconstruction=draw.running(), state=draw.store.state, seconds=took_s)
            watch.heard(draw.store.state)
    yield draw.last(clock)


def quick(settings: TorchInferenceConfig) -> TorchInferenceConfig:
    """Return settings under which a reconstruction is a single pass."""
    return evolve(settings, probe_rounds=0, finish="none")


class _Draw:
    """Makes pictures.

    Args:
        store: the frames.
        model: that is asked for; None for the shipped one.
        execution: device, precision, batch size.
        settings: of the last reconstruction.
    """

    def __init__(
        self,
        store: FrameStore,
        model: TrainedModel | None,
        execution: PyTorchExecutionConfig,
        settings: TorchInferenceConfig,
    ) -> None:
        self.store, self._model = store, model
        self._execution, self._settings = execution, settings
        self._running: RunningReconstruction | None = None
        self._figures = np.zeros((2, 0))

    def warm_up(self, like: Scan) -> None:
        """Do once what takes longest the first time, with a few made frames, before any that matter come."""
        made = _made_frames(like)
        self._begun(made).add(made)

    def add(self) -> bool:
        """Add some of the frames that are in no picture yet; tell whether that was possible."""
        state = self.store.state
        first, recent = state.reconstructed, 0 if self._running is None else self._running.recent
        # Some at a time; more where all of them lie at one place, as while a stage waits.
        most = _MOST_AT_FIRST if self._running is None else _MOST_AT_ONCE
        ends = (*range(first + most, state.frames, most), state.frames)
        end = next((end for end in ends if self.store.spread_out(first - recent, end)), None)
        if end is None:
            return False
        frames = self.store.latest(first - recent, end)
        running = self._running = self._running or self._begun(frames)
        figures = running.add(frames, behind=state.backlog + state.waiting > _MOST_AT_ONCE)
        self._figures = np.concatenate([self._figures, figures], axis=1)[:, -_RATED:]
        self.store.state = state.pictured(end)
        return True

    def running(self) -> Reconstruction:
        """Give the object so far."""
        if self._running is None:
            raise ValueError("no frame was added")
        n = self.store.state.reconstructed
        found = self._running.result(self.store.positions_px[:n].copy(), self.store.numbers[:n].copy())
        gaps, measured = self._figures.sum(axis=1)
        return attrs.evolve(found, metrics={"r_factor": float(gaps / measured)})

    def last(self, clock: Callable[[], float]) -> Picture:
        """Reconstruct all frames, as a run does."""
        from ptycho_adapters.torch_backend import reconstruct  # noqa: PLC0415 - torch

        start_s, scan = clock(), self.store.scan()
        self._running = None
        found = reconstruct(
            self._model_for(scan),
            scan,
            execution_config=self._execution,
            inference_config=evolve(self._settings, n_groups=scan.n_patterns),
        )
        state = self.store.state.pictured(scan.n_patterns)
        return Picture(reconstruction=found, scan=scan, state=state, seconds=clock() - start_s)

    def _begun(self, first: Scan) -> RunningReconstruction:
        from ptycho_adapters.torch_backend import RunningReconstruction  # noqa: PLC0415 - torch

        execution = evolve(self._execution, enable_progress_bar=False)
        around = np.concatenate([self.store.expected_positions_px, first.positions_px])
        return RunningReconstruction(self._model_for(first), first, execution, quick(self._settings), around_px=around)

    def _model_for(self, scan: Scan) -> TrainedModel:
        from ptycho_adapters.torch_backend import generalist_for  # noqa: PLC0415 - torch

        return self._model or generalist_for(scan)


def _made_frames(like: Scan) -> Scan:
    """Make a few frames of the probe without an object, for their cost alone."""
    waves = np.fft.fftshift(np.fft.fft2(like.probe), axes=(-2, -1))
    frame = np.square(np.abs(waves)).sum(axis=0)
    steps = _WARM_STEP_PX * np.arange(_WARM_SIDE)
    places = np.stack([np.repeat(steps, _WARM_SIDE), np.tile(steps, _WARM_SIDE)], axis=-1)
    return attrs.evolve(
        like,
        patterns=np.tile((_WARM_COUNTS / frame.sum() * frame).astype(np.float32), (len(places), 1, 1)),
        domain=MeasurementDomain.COUNTS,
        positions_px=places,
        scan_index=np.zeros(len(places), dtype=np.int32),
        commanded_positions_px=None,
        object=None,
        metadata=attrs.evolve(like.metadata, nphotons=None),
    )
