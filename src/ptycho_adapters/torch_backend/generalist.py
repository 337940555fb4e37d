"""The network in the box: weights trained on simulated scans, for any scan whose probe is roughly known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.shipped import generalist_record, shipped_weights
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.trained_model import TrainedModel
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.measurement.scan import Scan  # noqa: TC001 - signatures are read at run time too

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.generators import Generator


def generalist_for(scan: Scan) -> TrainedModel:
    """Give the shipped network for a scan, with the scan's own probe: nothing has been trained on it.

    Args:
        scan: any validated scan; its probe should be right to within a little defocus and aberration.
    """
    return TrainedModel.of(generalist_record(scan), pretrained_generator())


def pretrained_generator(model: TorchModelConfig | None = None) -> Generator:
    """Build a network that the shipped weights fit, by default the default one, with them, in evaluation mode."""
    generator = build_generator(TorchModelConfig() if model is None else model, DataConfig())
    generator.load_state_dict({name: torch.tensor(value) for name, value in shipped_weights().items()})
    return generator.eval()
