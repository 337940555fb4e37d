"""Whether a run fits into memory: what a step keeps for its gradient is read off its graph, which is never run.

Only the processor's memory is looked at. That of a GPU is TensorFlow's own to share out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import tensorflow as tf

from ptycho_adapters.common.memory import FEWER_PATTERNS, Residence
from ptycho_adapters.machine import available_memory
from ptycho_adapters.tensorflow_backend.execution import works_on_gpu
from ptycho_adapters.tensorflow_backend.generators.base import Draft, Steps, View
from ptycho_adapters.tensorflow_backend.generators.layers import from_torch
from ptycho_core.memory import MemoryDemand, Remedy, ScanSize, check_memory, reconstruction_demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.measurement.scan import Scan

_FLOAT32 = 4
_PIECE_PX = 32
# Operations whose result is their argument, and those that only look at its shape.
_SAME_MEMORY = frozenset({"Reshape", "Identity", "ExpandDims", "Squeeze", "StopGradient", "PreventGradient"})
_OF_SHAPE = frozenset({"Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs"})


@attrs.frozen(kw_only=True)
class Sizes:
    """Sizes of what a step is given.

    Attributes:
        patterns: seen together.
        size_px: edge of a pattern.
        modes: of the probe.
        canvas_px: (height, width).
        masked: whether there are bad pixels.
    """

    patterns: int
    size_px: int
    modes: int
    canvas_px: tuple[int, int]
    masked: bool = False


def residence(scan: Scan) -> Residence:
    """Return a scan with what its counts take: float32, whatever they are measured as."""
    return Residence(scans=(scan,), count_bytes=(_FLOAT32,))


def check_residency(scan: Scan, n_patterns: int) -> None:
    """Refuse a reconstruction whose patterns do not fit beside each other; the scan is there already.

    Args:
        scan: to reconstruct.
        n_patterns: patterns that take part.

    Raises:
        MemoryShortageError: they do not fit.
    """
    stays = residence(scan)
    fewer = Remedy(action=FEWER_PATTERNS, largest=n_patterns, demand=lambda number: stays.demand([number]))
    remedies = [fewer, *stays.mapping([n_patterns], stays.demand)]
    check_memory("reconstruction", stays.demand([n_patterns]), available_memory(), remedies)


def check_reconstruction(
    generator: Generator,
    scan: Scan,
    chosen: NDArray[np.int64],
    execution: PyTorchExecutionConfig,
    *,
    batch_size: int,
) -> None:
    """Refuse a reconstruction whose fields and canvas do not fit beside the patterns.

    Args:
        generator: of the model.
        scan: to reconstruct.
        chosen: (n,) patterns that take part.
        execution: names the device.
        batch_size: patterns at a time.

    Raises:
        MemoryShortageError: they do not fit.
    """
    if works_on_gpu(execution):
        return
    height, width = np.ptp(scan.positions_px[chosen], axis=0) + scan.N + 1.0
    canvas_px, kept, stays = (
        int(np.ceil(height)) * int(np.ceil(width)),
        kept_per_pixel(generator, scan),
        residence(scan),
    )

    def demand(n_patterns: int) -> MemoryDemand:
        # A share of the patterns is taken to lie all over the scan.
        needed = reconstruction_demand(
            ScanSize(n_patterns=n_patterns, size_px=scan.N, modes=scan.n_modes),
            canvas_px=canvas_px,
            network_bytes_per_px=kept,
            network_px=min(batch_size, n_patterns) * scan.N**2 if generator.patchwise else canvas_px,
            channels=2 * generator.memory_channels,
        )
        return MemoryDemand(parts={**stays.demand([n_patterns]).parts, **needed.parts})

    remedies = [Remedy(action=FEWER_PATTERNS, largest=len(chosen), demand=demand)]
    check_memory("reconstruction", demand(len(chosen)), available_memory(), remedies)


def kept_per_pixel(generator: Generator, scan: Scan) -> float:
    """Return what a step of a generator would keep of a pixel for the gradient, in bytes.

    A generator that works on canvases takes any size, so a small piece says it.

    Args:
        generator: of the model.
        scan: to reconstruct.
    """
    size = scan.N if generator.patchwise else min(scan.N, _PIECE_PX)
    sizes = Sizes(patterns=1, size_px=size, modes=scan.n_modes, canvas_px=(size, size))
    return kept_by_step(generator, sizes) / size**2


def kept_by_step(generator: Generator, sizes: Sizes) -> int:
    """Return what a step on one group keeps for the gradient, in bytes, the draft that it starts from included."""

    def forward() -> Passed:
        view, draft = view_of(sizes), _draft(generator, sizes)
        own = generator.weights_of(0, generator.weights)
        weights = {name: _given(np.shape(from_torch(value))) for name, value in own.items()}
        *made, _ = Steps(generator).one(
            weights, attrs.astuple(view, recurse=False), attrs.astuple(draft, recurse=False)
        )
        return Passed(results=made, inputs=[draft.object, draft.memory], weights=[*weights.values()])

    return kept_for_gradient(forward)


@attrs.frozen(kw_only=True, eq=False)
class Passed:
    """A way through a graph: its results, and what their gradient is wanted for, of which weights are there anyway."""

    results: Sequence[tf.Tensor]
    inputs: Sequence[tf.Tensor]
    weights: Sequence[tf.Tensor] = ()


def kept_for_gradient(forward: Callable[[], Passed]) -> int:
    """Return the bytes that a graph's way back reads of what its way there has made, each piece once.

    Args:
        forward: builds the way there; all shapes have to be known.
    """
    with tf.Graph().as_default() as graph:
        way = forward()
        there = {*graph.get_operations()}
        first = [tf.ones_like(each) for each in way.results]
        tf.gradients(way.results, [*way.weights, *way.inputs], grad_ys=first)
        back = [operation for operation in graph.get_operations() if operation not in there]
    kept = {
        source.ref(): source
        for operation in back
        if operation.type not in _OF_SHAPE
        for value in operation.inputs
        if value.op in there and (source := _source(value)).op.type != "Const"
    }
    own = {each.ref() for each in way.weights}
    return sum(_bytes(value) for name, value in kept.items() if name not in own)


def view_of(sizes: Sizes) -> View:
    """Give a view of one group as part of a graph that is never run."""
    patterns, size = sizes.patterns, sizes.size_px
    return View(
        amplitude=_given((1, patterns, size, size)),
        probes=_given((1, patterns, sizes.modes, size, size), tf.complex64),
        weight=_given((1, patterns, size, size)),
        where=_given((1, patterns, size**2), tf.int32),
        good_pixels=_given((size, size)) if sizes.masked else None,
        background=_given(()),
    )


def _draft(generator: Generator, sizes: Sizes) -> Draft:
    canvas = (1, *sizes.canvas_px)
    return Draft(
        object=_given(canvas, tf.complex64), weight=_given(canvas), memory=_given((*canvas, generator.memory_channels))
    )


def _given(shape: Sequence[int], kind: tf.DType = tf.float32) -> tf.Tensor:
    return tf.compat.v1.placeholder(kind, shape)


def _source(value: tf.Tensor) -> tf.Tensor:
    while value.op.type in _SAME_MEMORY:
        value = value.op.inputs[0]
    return value


def _bytes(value: tf.Tensor) -> int:
    return int(np.prod(value.shape.as_list(), dtype=np.int64)) * int(value.dtype.size)
