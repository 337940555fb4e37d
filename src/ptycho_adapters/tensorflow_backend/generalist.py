"""The network in the box: weights trained on simulated scans, for any scan whose probe is roughly known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.common.shipped import generalist_record, shipped_weights
from ptycho_adapters.tensorflow_backend.generators.build import build_generator
from ptycho_adapters.tensorflow_backend.trained_model import TrainedModel
from ptycho_core.config import DataConfig, TorchModelConfig

if TYPE_CHECKING:
    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_core.measurement.scan import Scan


def generalist_for(scan: Scan) -> TrainedModel:
    """Give the shipped network for a scan, with the scan's own probe: nothing has been trained on it.

    Args:
        scan: any validated scan; its probe should be right to within a little defocus and aberration.
    """
    return TrainedModel.of(generalist_record(scan), pretrained_generator())


def pretrained_generator(model: TorchModelConfig | None = None) -> Generator:
    """Build a network that the shipped weights fit, by default the default one, with them."""
    return build_generator(TorchModelConfig() if model is None else model, DataConfig(), shipped_weights())
