"""The network in the box: weights trained on simulated scans, for any scan whose probe is roughly known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load

from ptycho_adapters.shipped_weights import generalist_payload, weights_path
from ptycho_adapters.torch_backend.data.resident import mean_flux
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.trained_model import ScanProbe, TrainedModel
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from torch import Tensor

    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_core.measurement.scan import Scan


def generalist_for(scan: Scan) -> TrainedModel:
    """Give the shipped network for a scan, with the scan's own probe: nothing has been trained on it.

    Args:
        scan: any validated scan; its probe should be right to within a little defocus and aberration.
    """
    payload = generalist_payload(scan.N)
    flux = mean_flux(scan)
    energy = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    probe = (scan.probe * np.sqrt(flux / energy)).astype(np.complex64)
    return TrainedModel(
        payload=payload,
        generator=pretrained_generator(),
        probes=(ScanProbe(name=scan.metadata.name, probe=probe, start_probe=probe, flux=flux),),
        history=(),
        code_version=VERSION,
        probe_refined=False,
    )


def pretrained_generator(model: TorchModelConfig | None = None) -> Generator:
    """Build a network that the shipped weights fit, by default the default one, with them, in evaluation mode."""
    generator = build_generator(TorchModelConfig() if model is None else model, DataConfig())
    generator.load_state_dict(shipped_weights())
    return generator.eval()


def fits_generalist(model: TorchModelConfig) -> bool:
    """Tell whether a network of this configuration can take the shipped weights, however often it repeats steps."""
    default = TorchModelConfig()
    names = ("architecture", "unrolled_steps", "n_filters_scale")
    return all(getattr(model, name) == getattr(default, name) for name in names)


def shipped_weights() -> dict[str, Tensor]:
    """Read the shipped weights as float32, by name."""
    return {name: value.to(torch.float32) for name, value in load(weights_path().read_bytes()).items()}
