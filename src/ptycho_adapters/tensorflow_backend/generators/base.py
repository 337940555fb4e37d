"""What a generator is, and how its steps are run on canvases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import attrs
import tensorflow as tf

from ptycho_adapters.tensorflow_backend.generators.layers import from_torch
from ptycho_adapters.tensorflow_backend.physics.canvas import accumulate, extract
from ptycho_adapters.tensorflow_backend.physics.optics import as_complex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from ptycho_adapters.tensorflow_backend.generators.layers import Weights


_KEPT_WHOLE = {"_noinline": True}  # a graph of a dozen copies would take long to optimise


@attrs.frozen(eq=False)
class View:
    """Some patterns of each group, as a step sees them; no gradient is wanted through any of it.

    Attributes:
        amplitude: (B, C, N, N) real, square root of counts, detector order, 0 at bad pixels.
        probes: (B, C, modes, N, N) complex, in the same unit of flux, moved to their sub-pixel positions.
        weight: (B, C, N, N) real, what an average of overlapping patches gives to each pixel.
        where: (B, C, N * N) int32, flat canvas indices of the patches.
        good_pixels: (N, N) real, detector order, or None if all are good.
        background: counts per pixel that do not come from the beam.
    """

    amplitude: tf.Tensor
    probes: tf.Tensor
    weight: tf.Tensor
    where: tf.Tensor
    good_pixels: tf.Tensor | None
    background: float | tf.Tensor


@attrs.frozen(eq=False)
class Draft:
    """The object between two steps, one canvas per group.

    Attributes:
        object: (B, H, W) complex.
        weight: (B, H, W) real, the summed weight of the views.
        memory: (B, H, W, M) real, what a step wants the next one to know.
    """

    object: tf.Tensor
    weight: tf.Tensor
    memory: tf.Tensor


class Generator(ABC):
    """A network from diffraction amplitudes to an object, as steps on a canvas.

    Args:
        weights: by their names in torch, in torch's layout.

    Attributes:
        weights: the same.
        memory_channels: canvas channels that its steps hand on.
        patchwise: whether patches are made one by one and then averaged.
        weighs_patterns: whether what a pattern adds depends on weights; TensorFlow looks at every argument of a call.
    """

    memory_channels: int = 0
    patchwise: bool = True
    weighs_patterns: bool = True

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.weights = dict(weights)

    @property
    @abstractmethod
    def n_steps(self) -> int:
        """Number of steps that are run one after the other."""

    @abstractmethod
    def weights_of(self, step: int, weights: Weights) -> Weights:
        """Give the weights of a step under names that are the same for every step."""

    @abstractmethod
    def contribution(self, weights: Weights, view: View, patches: tf.Tensor) -> tf.Tensor:
        """Give what each pattern adds to the canvas, (B, C, N, N) complex, in units of weight times object."""

    @abstractmethod
    def combine(self, weights: Weights, total: tf.Tensor, draft: Draft) -> Draft:
        """Turn summed contributions (B, H, W) into the next draft."""

    def tensors(self) -> dict[str, tf.Tensor]:
        """Give the weights in TensorFlow's layout."""
        return {name: tf.constant(from_torch(value)) for name, value in self.weights.items()}


def first_draft(generator: Generator, weight: tf.Tensor) -> Draft:
    """Give the transparent object that a generator starts from, under a summed weight (B, H, W)."""
    shape = tf.concat([tf.shape(weight), [generator.memory_channels]], axis=0)
    return Draft(object=as_complex(tf.ones_like(weight)), weight=weight, memory=tf.zeros(shape, weight.dtype))


class Steps:
    """A generator's steps as a graph: one function with the weights as arguments, traced once for all of them.

    Args:
        generator: the network.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._step = tf.function(self.one, autograph=False, reduce_retracing=True, experimental_attributes=_KEPT_WHOLE)

    def run(self, weights: Weights, view: View, weight: tf.Tensor) -> Iterator[tuple[Draft, tf.Tensor]]:
        """Run all steps on one view that holds every pattern of its groups.

        Args:
            weights: of the generator, by name.
            view: the patterns.
            weight: (B, H, W) real, the summed weight of the view.

        Yields:
            After each step the draft and the contributions (B, C, N, N).
        """
        draft = first_draft(self._generator, weight)
        for step in range(self._generator.n_steps):
            own = self._generator.weights_of(step, weights)
            values = {name: tf.convert_to_tensor(value) for name, value in own.items()}
            *made, added = self._step(values, attrs.astuple(view, recurse=False), attrs.astuple(draft, recurse=False))
            draft = Draft(object=made[0], weight=weight, memory=made[1])
            yield draft, added

    def one(
        self, weights: Weights, view_parts: tuple[tf.Tensor, ...], draft_parts: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Run a step with its own weights; gives object and memory after it, and the contributions."""
        view, draft = View(*view_parts), Draft(*draft_parts)
        groups, pixels = tf.shape(draft.weight)[0], tf.size(draft.weight[0])
        patches = extract(tf.reshape(draft.object, [groups, pixels]), view.where, int(view.amplitude.shape[-1]))
        added = self._generator.contribution(weights, view, patches)
        total = tf.reshape(accumulate(added, view.where, pixels), tf.shape(draft.weight))
        after = self._generator.combine(weights, total, draft)
        return after.object, after.memory, added
