"""The shipped weights as arrays, and what is known about a model that has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load

from ptycho_adapters.common.model import ModelRecord, ScanProbe
from ptycho_adapters.common.patterns import mean_flux
from ptycho_adapters.common.prior_law import PriorLaw, prior_law_from
from ptycho_adapters.shipped_weights import generalist_payload, prior_law_path, weights_path
from ptycho_core.config import TorchModelConfig
from ptycho_core.errors import ConfigError, Problem
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan


def generalist_record(scan: Scan) -> ModelRecord:
    """Give all but the network of the shipped model for a scan, with the scan's own probe."""
    flux = mean_flux(scan)
    energy = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    probe = (scan.probe * np.sqrt(flux / energy)).astype(np.complex64)
    return ModelRecord(
        payload=generalist_payload(scan.N),
        probes=(ScanProbe(name=scan.metadata.name, probe=probe, start_probe=probe, flux=flux),),
        history=(),
        code_version=VERSION,
        probe_refined=False,
        prior_law=shipped_prior_law(),
    )


def fits_generalist(model: TorchModelConfig) -> bool:
    """Tell whether a network of this configuration can take the shipped weights, however often it repeats steps."""
    default = TorchModelConfig()
    names = ("architecture", "unrolled_steps", "n_filters_scale")
    return all(getattr(model, name) == getattr(default, name) for name in names)


def starts_from_shipped(payload: TrainingPayload) -> bool:
    """Tell whether a training starts from the shipped weights.

    Raises:
        ConfigError: they are asked for and do not fit the network.
    """
    model, wanted = payload.pt_model_config, payload.pt_training_config.initial_weights
    fits = fits_generalist(model)
    if wanted == "generalist" and not fits:
        found = _shape_of(model)
        expected = "the default network, which the package's weights fit"
        raise ConfigError("training", [Problem(path="initial_weights", expected=expected, found=found)])
    return wanted != "random" and fits


def knows_faults(model: ModelRecord) -> bool:
    """Tell whether a network is the shipped one or was trained from it.

    Those were brought up on scans with faults, and can say what is wrong with probe, positions or background. A network
    from random weights knows the scans of its training alone, and one of other software was made for a probe as it is.
    """
    return bool(model.probes) and (not model.probe_refined or starts_from_shipped(model.payload))


def _shape_of(model: TorchModelConfig) -> str:
    """Say of a network what decides whether the shipped weights fit: of another one the name alone."""
    if model.architecture != TorchModelConfig().architecture:
        return str(model.architecture)
    return f"{model.architecture}, {model.unrolled_steps} steps, n_filters_scale {model.n_filters_scale}"


def shipped_prior_law() -> PriorLaw:
    """Read the law by which the shipped network errs (`benchmarks/prior_law.py` measures it).

    Raises:
        ConfigError: the file in the package is damaged.
    """
    path = prior_law_path()
    law = prior_law_from(json.loads(path.read_text()), path.name)
    if isinstance(law, Problem):
        raise ConfigError(str(path), [law])
    return law


def prior_law_of_start(payload: TrainingPayload) -> PriorLaw | None:
    """Give the law of what a training starts from; None for random weights, of which none was measured."""
    return shipped_prior_law() if starts_from_shipped(payload) else None


def shipped_weights() -> dict[str, NDArray[Any]]:
    """Read the shipped weights as float32, by their names in torch, in torch's layout."""
    return {name: value.astype(np.float32) for name, value in load(weights_path().read_bytes()).items()}
