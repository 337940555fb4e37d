"""What a training starts from: the weights of the network, and the patterns under their probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.common.shipped import starts_from_shipped
from ptycho_adapters.tensorflow_backend.generalist import pretrained_generator
from ptycho_adapters.tensorflow_backend.generators.build import build_generator, weights_for
from ptycho_adapters.tensorflow_backend.generators.layers import started
from ptycho_adapters.tensorflow_backend.patterns import Canvas, Patterns, beam_energy
from ptycho_adapters.tensorflow_backend.training.step import Arm

if TYPE_CHECKING:
    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_core.config.payload import TrainingPayload


@attrs.frozen(kw_only=True, eq=False)
class Arms:
    """The patterns to train on, and those to validate on, often the same ones."""

    training: Arm
    validation: Arm


def arms_of(payload: TrainingPayload, data: TrainingSet) -> Arms:
    """Bring the patterns of a training into the order of the network.

    Args:
        payload: resolved settings.
        data: one scan and its groups.
    """
    settings, scan, groups = payload.pt_training_config, data.scans[0], data.groups[0]
    patterns = Patterns(scan, groups.of_training_scan(), find_beam=settings.beam_search)
    background = settings.background_counts or 0.0
    own = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    probe = (scan.probe * np.sqrt(beam_energy(patterns, background) / own)).astype(np.complex64)
    canvas = patterns.canvas_of(groups.train)
    if data.validation is None:
        canvas = _larger(canvas, patterns.canvas_of(groups.validation))
        arm = Arm(patterns=patterns, canvas=canvas, probe=probe, background=background)
        return Arms(training=arm, validation=arm)
    other = Patterns(data.validation, groups.of_validation_scan(), find_beam=settings.beam_search)
    canvas = _larger(canvas, other.canvas_of(groups.validation))
    arm = Arm(patterns=patterns, canvas=canvas, probe=probe, background=background)
    brightness = np.sqrt(other.flux / patterns.flux)
    return Arms(
        training=arm, validation=attrs.evolve(arm, patterns=other, probe=(probe * brightness).astype(np.complex64))
    )


def starting_generator(payload: TrainingPayload) -> Generator:
    """Build the generator with the weights that a training starts from.

    Raises:
        ConfigError: the shipped weights are asked for and do not fit, or the network is not built here.
    """
    model = payload.pt_model_config
    if starts_from_shipped(payload):
        return pretrained_generator(model)
    first = started(weights_for(model, payload.pt_data_config), payload.pt_training_config.seed)
    return build_generator(model, payload.pt_data_config, first)


def _larger(one: Canvas, other: Canvas) -> Canvas:
    return Canvas(height=max(one.height, other.height), width=max(one.width, other.width))
