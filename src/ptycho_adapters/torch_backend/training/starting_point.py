"""What a training starts from: the weights of the network, and a probe for each scan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch

from ptycho_adapters.torch_backend.generalist import fits_generalist, pretrained_generator
from ptycho_adapters.torch_backend.generators import Generator, build_generator
from ptycho_adapters.torch_backend.inference.autofocus import focus_probe
from ptycho_adapters.torch_backend.inference.probe_refinement import ROUNDS_BEFORE_A_TRAINING, refine_probe
from ptycho_adapters.torch_backend.inference.whole_scan import PassFactory
from ptycho_adapters.torch_backend.physics.probe import TrainableProbe, soft_disc
from ptycho_adapters.torch_backend.training.preparation import ROUND_PASSES, Preparation, preparation_within
from ptycho_adapters.torch_backend.training.schedule import Clock, Pieces, TimeLimit
from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_adapters.torch_backend.data.resident import ResidentScan
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan

_log = logging.getLogger(__name__)
_PACE_PATTERNS = 8  # that a pass is timed on


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


def starting_probe(
    payload: TrainingPayload,
    scan: Scan,
    resident: ResidentScan,
    groups: NDArray[np.int32],
    start: StartingNetwork,
    time: ProbeTime | None = None,
) -> TrainableProbe:
    """Give a scan's probe; if it is to be trained, focused and, under a network that can, refined.

    Args:
        payload: resolved settings.
        scan: whose probe it is.
        resident: its patterns.
        groups: (G, C) scan indices that are trained on; no other pattern is looked at.
        start: the network.
        time: that there is for it. Where it is short, fewer patterns are looked at, in fewer rounds.

    Raises:
        ConfigError: the probe's mask leaves no light.
    """
    settings, mask = payload.pt_training_config, probe_mask(payload)
    if mask is not None and not (mask.numpy() * scan.probe).any():
        problem = Problem(path="probe_mask", expected="a mask that lets light pass", found="one that stops all of it")
        raise ConfigError("training", [problem])
    patterns = np.unique(groups).astype(np.int64)
    probe = TrainableProbe(scan.probe, resident.flux, mask)
    wanted = _wanted_preparation(payload, start, len(patterns))
    if not settings.probe_trainable or not (wanted.focus_patterns or wanted.rounds):
        return probe
    make_pass = PassFactory(start.generator, resident, patterns, payload.execution_config, payload.pt_inference_config)
    time = time or ProbeTime(limit=TimeLimit())
    work, round_s = time.suited(wanted, lambda few: make_pass(probe().numpy(), few).stitch(), resident, patterns)
    whose = scan.metadata.name or "the probe"
    _log.info("%s: %s", whose, work)
    if work.focus_patterns:
        few = _around_the_middle(resident, patterns, work.focus_patterns)
        focus = focus_probe(probe, resident, few, settings.background_counts)
        _log.info("focus of %s changed by %.2f rad (root mean square)", whose, focus)
    if not work.rounds:
        return probe
    few = _around_the_middle(resident, patterns, work.round_patterns)
    with torch.no_grad():
        refined = refine_probe(
            make_pass(probe().numpy(), few),
            work.rounds,
            show_progress=payload.execution_config.enable_progress_bar,
            enough=Pieces(time.limit, time.until, round_s),
        )
    return TrainableProbe(refined.numpy(), resident.flux, mask)


@attrs.frozen(kw_only=True, eq=False)
class ProbeTime:
    """The time for one scan's probe.

    Attributes:
        limit: of the run.
        until: share of the limit by whose end the probe has to be ready.
    """

    limit: TimeLimit
    until: float = 1.0

    def suited(
        self,
        wanted: Preparation,
        run_pass: Callable[[NDArray[np.int64]], object],
        resident: ResidentScan,
        patterns: NDArray[np.int64],
    ) -> tuple[Preparation, float]:
        """Cut the work down to the time, by the pace of a pass over a few patterns.

        Args:
            wanted: the work.
            run_pass: runs the network over some scan indices.
            resident: the patterns.
            patterns: scan indices that may be looked at.

        Returns:
            The work that fits, and the seconds that one of its rounds is expected to take.
        """
        if self.limit.seconds is None:
            return wanted, 0.0
        few = _around_the_middle(resident, patterns, _PACE_PATTERNS)
        with torch.no_grad():
            run_pass(few[:1])  # what the libraries do once is not the pace
            clock = Clock(self.limit.now)
            run_pass(few)
        pass_s = clock.elapsed_s / len(few)
        work = preparation_within(wanted, self.limit.left_until_s(self.until), pass_s)
        return work, ROUND_PASSES * pass_s * work.round_patterns


def _wanted_preparation(payload: TrainingPayload, start: StartingNetwork, n_patterns: int) -> Preparation:
    settings = payload.pt_training_config
    rounds = settings.probe_rounds
    if rounds is None:
        rounds = ROUNDS_BEFORE_A_TRAINING if start.pretrained else 0
    return Preparation(
        focus_patterns=n_patterns if settings.probe_autofocus else 0, rounds=rounds, round_patterns=n_patterns
    )


def _around_the_middle(resident: ResidentScan, patterns: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return so many scan indices around the mean position, in their order."""
    if number >= len(patterns):
        return patterns
    starts = resident.starts_on_host()[patterns]
    distance = np.square(starts - starts.mean(axis=0)).sum(axis=1)
    nearest: NDArray[np.int64] = np.sort(patterns[np.argsort(distance, kind="stable")[:number]])
    return nearest


def probe_mask(payload: TrainingPayload) -> Tensor | None:
    """Mask that the configuration multiplies to the probe."""
    model = payload.pt_model_config
    if not model.probe_mask:
        return None
    if model.probe_mask_tensor is not None:
        return torch.tensor(np.asarray(model.probe_mask_tensor, dtype=np.float32))
    size = payload.pt_data_config.N
    return soft_disc(size, model.probe_mask_diameter or size / 2, model.probe_mask_sigma)
