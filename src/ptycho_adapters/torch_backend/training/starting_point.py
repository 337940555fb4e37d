"""What a training starts from: the weights of the network, and a probe for each scan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch

from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.generalist import fits_generalist, pretrained_generator
from ptycho_adapters.torch_backend.generators import Generator, build_generator
from ptycho_adapters.torch_backend.inference.preparation import Preparation, prepare
from ptycho_adapters.torch_backend.inference.turns import ROUNDS_BEFORE_A_TRAINING, never
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe, soft_disc
from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class StartingNetwork:
    """A generator, and whether its weights know diffraction patterns already."""

    generator: Generator
    pretrained: bool


def starting_network(payload: TrainingPayload) -> StartingNetwork:
    """Build the generator with the weights that a training starts from.

    Raises:
        ConfigError: the shipped weights are asked for and do not fit, or no generator of that name is registered.
    """
    model, wanted = payload.pt_model_config, payload.pt_training_config.initial_weights
    fits = fits_generalist(model)
    if wanted == "generalist" and not fits:
        found = f"{model.architecture}, {model.unrolled_steps} steps, n_filters_scale {model.n_filters_scale}"
        expected = "the default network, which the package's weights fit"
        raise ConfigError("training", [Problem(path="initial_weights", expected=expected, found=found)])
    if wanted != "random" and fits:
        return StartingNetwork(generator=pretrained_generator(model).train(), pretrained=True)
    return StartingNetwork(generator=build_generator(model, payload.pt_data_config), pretrained=False)


@attrs.frozen(kw_only=True, eq=False)
class StartingScan:
    """What a training starts from in one scan.

    Attributes:
        probe: to be trained, if it may.
        patterns: at their refined positions.
        background: counts per pixel that do not come from the beam.
    """

    probe: TrainableProbe
    patterns: ResidentScan
    background: float


def starting_scan(
    payload: TrainingPayload,
    scan: Scan,
    resident: ResidentScan,
    groups: NDArray[np.int32],
    start: StartingNetwork,
    enough: Callable[[], bool] = never,
) -> StartingScan:
    """Find out about a scan what is asked for: its background and, under a network that can, probe and positions.

    Args:
        payload: resolved settings.
        scan: whose probe it is.
        resident: its patterns.
        groups: (G, C) scan indices that are trained on; no other pattern is looked at.
        start: the network.
        enough: ends the rounds of refinement once it says so.

    Raises:
        ConfigError: the probe's mask leaves no light.
    """
    settings, mask = payload.pt_training_config, probe_mask(payload)
    if mask is not None and not (mask.numpy() * scan.probe).any():
        problem = Problem(path="probe_mask", expected="a mask that lets light pass", found="one that stops all of it")
        raise ConfigError("training", [problem])
    patterns = np.unique(groups).astype(np.int64)
    probe = TrainableProbe(scan.probe, resident.flux, mask)
    make_pass = PassFactory(start.generator, resident, patterns, payload.execution_config, payload.pt_inference_config)
    found = prepare(make_pass(probe().detach().numpy(), patterns), _preparation_for(payload, start, enough))
    if found.focus_rad:
        whose = scan.metadata.name or "the probe"
        _log.info("focus of %s changed by %.2f rad (root mean square)", whose, found.focus_rad)
    run = found.run
    energy = float(light_of(run.probe).sum())
    changed = len(run.probe) != len(scan.probe) or (
        settings.probe_trainable and (found.focus_rad or found.probe_refined)
    )
    return StartingScan(
        probe=TrainableProbe(run.probe.numpy() if changed else scan.probe, energy, mask),
        patterns=run.scan,
        background=run.background,
    )


def _preparation_for(payload: TrainingPayload, start: StartingNetwork, enough: Callable[[], bool]) -> Preparation:
    """What is found out before a training; a network with random weights knows nothing about probe and positions."""
    settings = payload.pt_training_config
    rounds = settings.probe_rounds
    if rounds is None:
        rounds = ROUNDS_BEFORE_A_TRAINING if start.pretrained else 0
    able = start.pretrained and rounds > 0
    return Preparation(
        autofocus=settings.probe_autofocus and settings.probe_trainable,
        judged=start.pretrained,
        probe_rounds=rounds if settings.probe_trainable else 0,
        background_counts=settings.background_counts,
        positions=settings.position_refinement if able else "none",
        orientation=settings.orientation_search if able else "never",
        probe_search=settings.probe_search if able and settings.probe_trainable else "never",
        modes=settings.probe_modes,
        show_progress=payload.execution_config.enable_progress_bar,
        enough=enough,
    )


def probe_mask(payload: TrainingPayload) -> Tensor | None:
    """Mask that the configuration multiplies to the probe."""
    model = payload.pt_model_config
    if not model.probe_mask:
        return None
    if model.probe_mask_tensor is not None:
        mask = torch.tensor(model.probe_mask_tensor)
        peak = mask.abs().max()
        # The probe's energy is fixed, so a mask has no unit; one that is far from 1 would overflow.
        return mask / peak if peak > 0 else mask
    size = payload.pt_data_config.N
    return soft_disc(size, model.probe_mask_diameter or size / 2, model.probe_mask_sigma)
