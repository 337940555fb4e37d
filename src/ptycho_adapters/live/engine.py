"""Pictures of a stream: the network's pass over all frames so far, whenever enough of them are new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.live.store import FrameStore
from ptycho_adapters.torch_backend import TrainedModel
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.record import evolve
from ptycho_core.measurement.scan import Scan
from ptycho_core.measurement.stream import PicturePace, StreamState
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ptycho_core.measurement.stream import FrameBatch


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """A reconstruction of the frames so far.

    Attributes:
        reconstruction: the result.
        scan: the frames that it was made of.
        state: of the stream by then.
        seconds: that it took.
        last: whether the stream has ended, and all that was asked for was done.
    """

    reconstruction: Reconstruction
    scan: Scan
    state: StreamState
    seconds: float
    last: bool


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
        inference_config: how the last reconstruction is made, its finish included. The ones before are a single pass
            under the probe as it is.
        execution_config: device, precision, batch size.

    Yields:
        Reconstructions of more and more frames; the last one is of all.

    Raises:
        ScanError: the frames are no scan, or there is no position for one.
        DependencyError: the packages of the torch backend are not installed, or the device is not there.
    """
    for picture in pictures(
        frames, like, model=model, inference_config=inference_config, execution_config=execution_config
    ):
        yield picture.reconstruction


def pictures(  # noqa: PLR0913 - frames, model and settings of a reconstruction, and two of time
    frames: Iterable[FrameBatch],
    like: Scan,
    *,
    model: TrainedModel | None = None,
    inference_config: TorchInferenceConfig | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    pace: PicturePace | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Picture]:
    """Reconstruct as `reconstruct_stream` does, and say with each result what is known of the stream.

    Args:
        frames: see there.
        like: see there.
        model: see there.
        inference_config: see there.
        execution_config: see there.
        pace: when a picture is due.
        clock: gives seconds.
    """
    settings = inference_config or TorchInferenceConfig()
    draw = _Draw(model=model, execution=execution_config or PyTorchExecutionConfig(), clock=clock)
    pace, store = pace or PicturePace(), FrameStore(like)
    ready_s = took_s = 0.0
    for batch in frames:
        now_s = clock()
        store.add(batch, now_s)
        if pace.due(store.state, now_s - ready_s, took_s):
            picture = draw(store, quick(settings), last=False)
            store.state, took_s, ready_s = picture.state, picture.seconds, clock()
            yield picture
    yield draw(store, settings, last=True)


def quick(settings: TorchInferenceConfig) -> TorchInferenceConfig:
    """Return settings under which a reconstruction is a single pass."""
    return evolve(settings, probe_rounds=0, finish="none")


@attrs.frozen(kw_only=True, eq=False)
class _Draw:
    """Makes pictures."""

    model: TrainedModel | None
    execution: PyTorchExecutionConfig
    clock: Callable[[], float]

    def __call__(self, store: FrameStore, settings: TorchInferenceConfig, *, last: bool) -> Picture:
        from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415 - torch

        start_s, scan = self.clock(), store.scan()
        found = reconstruct(
            self.model or generalist_for(scan),
            scan,
            execution_config=self.execution if last else evolve(self.execution, enable_progress_bar=False),
            inference_config=evolve(settings, n_groups=scan.n_patterns),
        )
        state = store.state.pictured(scan.n_patterns)
        return Picture(reconstruction=found, scan=scan, state=state, seconds=self.clock() - start_s, last=last)
