"""Whether a training fits into memory: what a group keeps for its gradient, multiplied, held against what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from ptycho_adapters.common.memory import fewer_patterns, numbers_of_patterns
from ptycho_adapters.machine import available_memory
from ptycho_adapters.tensorflow_backend.execution import works_on_gpu
from ptycho_adapters.tensorflow_backend.memory import Passed, Sizes, kept_by_step, kept_for_gradient, residence, view_of
from ptycho_adapters.tensorflow_backend.training.objective import Objective, Prediction
from ptycho_core.memory import MemoryDemand, Remedy, check_memory, training_demand

if TYPE_CHECKING:
    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_adapters.tensorflow_backend.training.start import Arms
    from ptycho_core.config import TorchTrainingConfig
    from ptycho_core.config.payload import TrainingPayload

# Measured on both networks, 0.8 and 1.2: an executor runs whatever is ready, and frees what it needs no more later.
_BACKWARD_SHARE = 1.2


def check_patterns(payload: TrainingPayload, data: TrainingSet) -> None:
    """Refuse a training whose patterns do not fit beside each other; the scan is there already.

    Raises:
        MemoryShortageError: they do not fit.
    """
    stays, now = residence(data.scans[0]), numbers_of_patterns(data)
    remedies = [*fewer_patterns(payload, data, stays.demand), *stays.mapping(now, stays.demand)]
    check_memory("training", stays.demand(now), available_memory(), remedies)


def check_training(payload: TrainingPayload, generator: Generator, data: TrainingSet, arms: Arms) -> None:
    """Refuse a training whose batches do not fit; the patterns are there already.

    Args:
        payload: of the training.
        generator: that will be trained.
        data: whose batches are meant.
        arms: the patterns.

    Raises:
        MemoryShortageError: a batch and its gradient do not fit.
    """
    if works_on_gpu(payload.execution_config):
        return
    kept = kept_for_group(payload.pt_training_config, generator, sizes_of(data, arms))
    n_weights = sum(weight.size for weight in generator.weights.values())

    def demand(groups: int) -> MemoryDemand:
        return training_demand(kept_bytes=kept, batch_size=groups, n_weights=n_weights, backward_share=_BACKWARD_SHARE)

    batch_size = min(payload.pt_training_config.batch_size, len(data.groups[0].train))
    smaller = Remedy(action="--batch-size {}", largest=batch_size, demand=demand)
    check_memory("training", demand(batch_size), available_memory(), [smaller])


def sizes_of(data: TrainingSet, arms: Arms) -> Sizes:
    """Return the sizes of a group."""
    arm = arms.training
    return Sizes(
        patterns=data.groups[0].train.shape[1],
        size_px=arm.patterns.size,
        modes=len(arm.probe),
        canvas_px=(arm.canvas.height, arm.canvas.width),
        masked=arm.patterns.good_pixels is not None,
    )


def kept_for_group(config: TorchTrainingConfig, generator: Generator, sizes: Sizes) -> int:
    """Return what steps, forward model and loss keep of one group for the gradient, in bytes."""
    judged = generator.n_steps if config.draft_weight else 1
    return generator.n_steps * kept_by_step(generator, sizes) + judged * _kept_by_loss(config, sizes)


def _kept_by_loss(config: TorchTrainingConfig, sizes: Sizes) -> int:
    def forward() -> Passed:
        view = view_of(sizes)
        patches = tf.compat.v1.placeholder(tf.complex64, view.amplitude.shape)
        prediction = Prediction(
            single=None,
            merged=patches,
            drafts=(),
            probes=view.probes,
            counts=tf.square(view.amplitude),
            good_pixels=view.good_pixels,
            background=view.background,
        )
        return Passed(results=[Objective(config).total(prediction)[0]], inputs=[patches])

    return kept_for_gradient(forward)
