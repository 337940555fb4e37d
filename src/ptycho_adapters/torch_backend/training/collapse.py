"""Notice a training that has collapsed: a network that no longer looks at its patterns still has a finite loss."""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs
import torch
from lightning import Callback
from torch import nn

from ptycho_adapters.torch_backend.physics.optics import visible_amplitude
from ptycho_adapters.torch_backend.training.module import PtychoModule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning import LightningModule, Trainer
    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from ptycho_adapters.torch_backend.data.groups import GroupBatch

_EVERY_N_STEPS = 50
PATTERNS_OF_A_LOOK = 16
_LIT = 0.1  # of the brightest pixel: the object is judged where there is light
_FLAT = 1e-3  # relative spread below which an image is taken for constant
_SAME = 3e-4  # and below which patches are taken for the same; a slow network begins not far above
_PHASE_SEEN_RAD = 1e-2
_DARK = 1e-2  # mean amplitude of an object that lets nothing through
_BRIGHT = 3.0  # mean amplitude that no sample has, whatever the guess of the probe
_STILL = 1e-6  # relative spread below which a unit is taken for dead
_MANY_DEAD = 0.5


class Collapse(StrEnum):
    """Ways to fail that a loss curve does not show; each is its message."""

    DIVERGED = (
        "the network's object is no longer a number: the learning rate is most likely too high; lower learning_rate, "
        "or bound the gradient with gradient_clip_val"
    )
    DARK = (
        "the network's object lets no light through: its amplitude has fallen to zero, most likely in a step that was "
        "too large; lower learning_rate, or bound the gradient with gradient_clip_val"
    )
    RUNAWAY = (
        "the network's object is several times brighter than empty space, which no sample is: the last steps were most "
        "likely too large; lower learning_rate, or bound the gradient with gradient_clip_val"
    )
    CONSTANT = (
        "the network gives the same patch for every pattern: it has stopped looking at the data, most likely after "
        "steps that were too large (lower learning_rate), or has not begun to learn (raise learning_rate or epochs); "
        "only a sample without any structure looks like this"
    )
    FLAT_AMPLITUDE = (
        "the network's amplitude is the same everywhere while its phase is not: its amplitude branch is most likely "
        "saturated or dead; lower learning_rate, choose another amp_activation, or, in cnn, set cbam_encoder to false; "
        "a sample that only shifts phases looks like this too"
    )
    DEAD_UNITS = (
        "more than half of the network's units give the same value everywhere: they are dead, most likely after steps "
        "that were too large; lower learning_rate, bound the gradient with gradient_clip_val, or choose the "
        "architecture unrolled or unet, whose units cannot die for good"
    )


class CollapseWarning(UserWarning):
    """A training has collapsed."""


@attrs.frozen(kw_only=True)
class Symptoms:
    """What is measured on a few patterns.

    Attributes:
        finite: whether every number of the patches is one.
        amplitude: mean amplitude where there is light.
        pattern_spread: spread from pattern to pattern at the same pixel, over the mean amplitude.
        amplitude_spread: spread of the amplitude over all lit pixels, over its mean.
        phase_spread_rad: spread of the phase over all lit pixels.
        dead_units: share of the units whose value is the same for every pattern and pixel.
    """

    finite: bool
    amplitude: float
    pattern_spread: float
    amplitude_spread: float
    phase_spread_rad: float
    dead_units: float

    def collapses(self) -> tuple[Collapse, ...]:
        """Name what is wrong; the gravest alone, and dead units beside it."""
        found: list[Collapse] = []
        if not self.finite:
            return (Collapse.DIVERGED,)
        if self.amplitude < _DARK:
            found.append(Collapse.DARK)
        elif self.pattern_spread < _SAME:
            found.append(Collapse.CONSTANT)
        elif self.amplitude > _BRIGHT:
            found.append(Collapse.RUNAWAY)
        elif self.amplitude_spread < _FLAT and self.phase_spread_rad > _PHASE_SEEN_RAD:
            found.append(Collapse.FLAT_AMPLITUDE)
        if self.dead_units > _MANY_DEAD:
            found.append(Collapse.DEAD_UNITS)
        return tuple(found)


class CollapseDetector(Callback):
    """Looks at a few patterns' patches now and then, at the end of an epoch, and warns once of each collapse.

    Nothing is read from the device in between.

    Args:
        every_n_steps: least number of optimiser steps between two looks, and before the first.

    Attributes:
        looks: how often the patches were looked at.
    """

    def __init__(self, every_n_steps: int = _EVERY_N_STEPS) -> None:
        self.looks = 0
        self._every_n_steps = every_n_steps
        self._recent: defaultdict[int, deque[Tensor]] = defaultdict(deque)
        self._last_look = 0
        self._told: set[Collapse] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here."""
        del pl_module
        self._last_look = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Remember the last few groups of each scan."""
        del trainer, pl_module, outputs, batch_idx
        recent = self._recent[batch.scan]
        recent.append(batch.indices)
        while sum(groups.numel() for groups in recent) - recent[0].numel() >= PATTERNS_OF_A_LOOK:
            recent.popleft()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, if enough steps have passed."""
        due = trainer.global_step - self._last_look >= self._every_n_steps
        if not due or not self._recent or not isinstance(pl_module, PtychoModule):
            return
        self._last_look = trainer.global_step
        self.looks += 1
        for scan, recent in sorted(self._recent.items()):
            for collapse in symptoms(pl_module, torch.cat(list(recent)), scan).collapses():
                if collapse not in self._told:
                    self._told.add(collapse)
                    # Attributed to this module, whose warnings the command line always shows.
                    warnings.warn(f"step {trainer.global_step}: {collapse}", CollapseWarning, stacklevel=1)


@torch.no_grad()
def symptoms(module: PtychoModule, indices: Tensor, scan: int = 0) -> Symptoms:
    """Measure the patches that a network makes of its training patterns, each taken on its own.

    Args:
        module: what is trained.
        indices: (B, C) scan indices.
        scan: number of the scan that they are of.
    """
    patterns = module.arms.training[scan].patterns
    group = patterns.gather(indices)
    probes = group.probes(module.probes[scan]())
    amplitude = visible_amplitude(group.counts.sqrt(), probes, patterns.good_pixels)
    with _unit_spreads(module.generator) as spreads:
        patches = module.generator(amplitude, probes).flatten(0, 1)
    light = probes.abs().square().sum(dim=2).flatten(0, 1).mean(dim=0)
    lit = patches[:, light > _LIT * light.amax()]
    transmission = lit.abs()
    mean = transmission.mean()
    phase = (lit * lit.mean().conj()).angle()
    relative = torch.stack(
        [
            mean,
            (lit - lit.mean(dim=0)).abs().square().mean().sqrt() / mean,
            transmission.std() / mean,
            phase.std(),
            _dead_share(spreads, like=mean),
        ]
    )
    finite, *numbers = torch.cat([patches.isfinite().all().float()[None], relative]).tolist()
    return Symptoms(
        finite=bool(finite),
        amplitude=numbers[0],
        pattern_spread=numbers[1],
        amplitude_spread=numbers[2],
        phase_spread_rad=numbers[3],
        dead_units=numbers[4],
    )


def _dead_share(spreads: dict[nn.Module, Tensor], *, like: Tensor) -> Tensor:
    """Share of still units among all; nothing is dead where nothing was seen."""
    if not spreads:
        return torch.zeros_like(like)
    return (torch.cat(list(spreads.values())) <= _STILL).to(like.dtype).mean()


@contextmanager
def _unit_spreads(network: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """Collect, for every channel that enters a convolution, its largest relative range in one pass of the network."""
    spreads: dict[nn.Module, Tensor] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels = inputs[0].detach().float().transpose(0, 1).flatten(1)
        low, high = channels.aminmax(dim=1)
        size = torch.maximum(low.abs(), high.abs()).clamp_min(torch.finfo(torch.float32).tiny)
        spread = (high - low) / size
        spreads[layer] = torch.maximum(spreads[layer], spread) if layer in spreads else spread

    handles: list[RemovableHandle] = [
        layer.register_forward_pre_hook(look) for layer in network.modules() if isinstance(layer, nn.Conv2d)
    ]
    try:
        yield spreads
    finally:
        for handle in handles:
            handle.remove()
