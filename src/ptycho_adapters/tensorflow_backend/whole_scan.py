"""A generator's pass over a whole scan: every pattern once in each step, one canvas, batches of bounded size."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import attrs
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho_adapters.common.bars import counted
from ptycho_adapters.common.candidates import Judgement
from ptycho_adapters.tensorflow_backend.generators.base import Draft, Generator, View, first_draft
from ptycho_adapters.tensorflow_backend.patterns import Canvas, Patterns
from ptycho_adapters.tensorflow_backend.physics.canvas import accumulate, extract
from ptycho_adapters.tensorflow_backend.physics.optics import (
    BACKGROUND_COUNTS,
    expected_counts,
    light_of,
    poisson_deviance,
    shift_probe,
)
from ptycho_core.physics.shot_noise import shot_noise_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.tensorflow_backend.generators.layers import Weights

_FEWEST, _MOST = 8, 48
_PIXELS_AT_ONCE = 48 * 64**2  # more calls cost more than they compute, and more pixels leave a processor's cache
_KEPT_BYTES = 2**30  # views up to this much are made once, not anew for each step
_LIT = 1e-3  # of a probe's peak intensity: darker pixels have no say in an even average

_View = tuple[tf.Tensor, ...]


@attrs.frozen(kw_only=True, eq=False)
class Passed:
    """What a pass gives: the object and the summed probe intensity on it, both (H, W)."""

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]


def patterns_at_once(size_px: int) -> int:
    """Give how many patterns of a side are gone through together where nobody says: `benchmarks/backends.py`."""
    return min(_MOST, max(_FEWEST, _PIXELS_AT_ONCE // size_px**2))


class PassRunner:
    """The graph of a generator's pass, traced once for all passes of a reconstruction.

    Args:
        generator: the network.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.contribute = tf.function(self._contribute, autograph=False, reduce_retracing=True)
        self.combine = tf.function(self._combine, autograph=False, reduce_retracing=True)
        self.moved = tf.function(shift_probe, autograph=False, reduce_retracing=True)
        self.judged = tf.function(_judged, autograph=False, reduce_retracing=True)

    def _contribute(self, weights: Weights, view_parts: _View, object_: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """Add what the patterns of a view ask for under an object (1, pixels) to a total (1, pixels)."""
        view = View(*view_parts)
        patches = extract(object_, view.where, int(view.amplitude.shape[-1]))
        added = self.generator.contribution(weights, view, patches)
        return total + accumulate(added, view.where, tf.shape(total)[1])

    def _combine(
        self, weights: Weights, total: tf.Tensor, draft_parts: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draft = Draft(*draft_parts)
        after = self.generator.combine(weights, tf.reshape(total, tf.shape(draft.weight)), draft)
        return after.object, after.memory


def _judged(object_: tf.Tensor, view_parts: _View) -> tuple[tf.Tensor, tf.Tensor]:
    """Give deviance and expected counts of the patterns of a view under an object (1, pixels)."""
    view = View(*view_parts)
    patches = extract(object_, view.where, int(view.amplitude.shape[-1]))
    expected = expected_counts(patches, view.probes, view.background + BACKGROUND_COUNTS)
    return poisson_deviance(expected, tf.square(view.amplitude), view.good_pixels), expected


@attrs.frozen(kw_only=True, eq=False, slots=False)
class WholeScan:
    """One pass.

    Attributes:
        runner: the network.
        patterns: the scan.
        probe: (modes, N, N) complex64 at the scan's flux.
        indices: (n,) int64, the patterns that take part.
        batch_size: patterns at a time.
        uniform: average overlapping patches evenly over what is lit, not by the light on them.
        background: counts per pixel that do not come from the beam.
        told: whether its steps are progress, and not a trial.
    """

    runner: PassRunner
    patterns: Patterns
    probe: NDArray[np.complex64]
    indices: NDArray[np.int64]
    batch_size: int
    uniform: bool
    background: float = 0.0
    told: bool = False

    @cached_property
    def canvas(self) -> Canvas:
        """Holds every patch."""
        return self.patterns.canvas_of(self.indices[None])

    @cached_property
    def origin(self) -> NDArray[np.int64]:
        """(2,) object pixel of the canvas' corner."""
        corner: NDArray[np.int64] = self.patterns.starts[self.indices].min(axis=0)
        return corner

    def stitch(self) -> Passed:
        """Run the generator's steps."""
        generator, shape = self.runner.generator, (1, self.canvas.height, self.canvas.width)
        summed, lit = (tf.zeros([1, self.canvas.pixels]) for _ in range(2))
        for view in self._views():
            summed += accumulate(view.weight, view.where, self.canvas.pixels)
            lit += accumulate(light_of(view.probes), view.where, self.canvas.pixels)
        draft = first_draft(generator, tf.reshape(summed, shape))
        weights = generator.tensors()
        for step in counted(generator.n_steps, "network and stitching") if self.told else range(generator.n_steps):
            own = generator.weights_of(step, weights)
            used = own if generator.weighs_patterns else {}
            total, flat = tf.zeros([1, self.canvas.pixels], tf.complex64), tf.reshape(draft.object, [1, -1])
            for view in self._views():
                total = self.runner.contribute(used, attrs.astuple(view, recurse=False), flat, total)
            object_, memory = self.runner.combine(own, total, attrs.astuple(draft, recurse=False))
            draft = Draft(object=object_, weight=draft.weight, memory=memory)
        return Passed(object=draft.object[0].numpy(), coverage=tf.reshape(lit, shape)[0].numpy())

    def judge(self, object_: NDArray[np.complex64]) -> Judgement:
        """Compare the counts that an object (H, W) implies with the measured ones, without a truth."""
        good, flat = self._good, tf.reshape(tf.constant(object_), [1, -1])
        deviance, floors, gaps, amplitudes = 0.0, np.zeros(2), [], []
        for view in self._views():
            found, rate = self.runner.judged(flat, attrs.astuple(view, recurse=False))
            amplitude, expected = view.amplitude.numpy()[0], rate.numpy()[0]
            deviance += float(found) * len(amplitude)
            floors += [float((each * good).sum(dtype=np.float64)) for each in _expected_misfit(expected)]
            gaps.append((np.abs(np.sqrt(expected) - amplitude) * good).sum(axis=(-2, -1), dtype=np.float64))
            amplitudes.append(amplitude.sum(axis=(-2, -1), dtype=np.float64))
        gap, amplitude = np.concatenate(gaps), np.concatenate(amplitudes)
        return Judgement(
            metrics={
                "deviance_per_px": deviance / len(self.indices),
                "r_factor": float(gap.sum() / amplitude.sum()),
                "expected_deviance_per_px": float(floors[0]) / (len(self.indices) * self.patterns.pixels),
                "expected_r_factor": float(floors[1] / amplitude.sum()),
            },
            r_factors=gap / amplitude,
        )

    @property
    def _good(self) -> NDArray[np.float32]:
        good = self.patterns.good_pixels
        return np.ones((1, 1), np.float32) if good is None else good

    @property
    def _dark(self) -> tf.Tensor:
        return tf.constant(self.background, tf.float32)

    def _views(self) -> Iterator[View]:
        """Views of all patterns, kept where there is room, else made anew each time."""
        bytes_per_pixel = 8 * len(self.probe) + 4 + 4 + 4
        fit = len(self.indices) * self.patterns.size**2 * bytes_per_pixel <= _KEPT_BYTES
        return iter(self._kept_views) if fit else self._made_views()

    @cached_property
    def _kept_views(self) -> tuple[View, ...]:
        return tuple(self._made_views())

    def _made_views(self) -> Iterator[View]:
        good = None if self.patterns.good_pixels is None else tf.constant(self.patterns.good_pixels)
        for first in range(0, len(self.indices), self.batch_size):
            group = self.patterns.gather(self.indices[None, first : first + self.batch_size])
            probes = self.runner.moved(tf.constant(self.probe), tf.constant(group.fractions_px))
            light = light_of(probes)
            lit = light > _LIT * tf.reduce_max(light, axis=(-2, -1), keepdims=True)
            yield View(
                amplitude=tf.constant(np.sqrt(group.counts)),
                probes=probes,
                weight=tf.cast(lit, light.dtype) if self.uniform else light,
                where=tf.constant(self.canvas.where(group.starts, self.origin, self.patterns.size)),
                good_pixels=good,
                background=self._dark,
            )


def _expected_misfit(rate: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half deviance and absolute difference of roots that counts drawn from rates have on average."""
    table, place = shot_noise_table(), np.log(rate)
    return np.interp(place, table.log_rate, table.deviance), np.interp(place, table.log_rate, table.gap)
