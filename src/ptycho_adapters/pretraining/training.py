"""The loop that trains the shipped weights: supervised, one simulated group a step."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from safetensors.torch import save
from tqdm import tqdm

from ptycho_adapters.atomic import write_bytes
from ptycho_adapters.pretraining.muon import Muon, split_parameters
from ptycho_adapters.pretraining.recipe import draw_specimen
from ptycho_adapters.pretraining.simulated_groups import expose, relative_amplitude_error, relative_error
from ptycho_adapters.torch_backend.generators import build_generator, run_steps
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_core.config import DataConfig, TorchModelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from ptycho_adapters.pretraining.recipe import Material, Specimen
    from ptycho_adapters.torch_backend.generators import Generator

_DRAFT_WEIGHT, _AMPLITUDE_WEIGHT = 0.3, 0.4
_REPEATS = (1, 2)  # in turn: the weights then serve either
_SMALLEST_ERROR = 1e-5
_LARGEST_GRADIENT = 0.5


@attrs.frozen(kw_only=True)
class Settings:
    """One pretraining.

    Attributes:
        steps: groups that are seen.
        learning_rate: of Muon for the kernels and Adam for the rest, at its highest; a cosine takes it to zero.
        warm_up_steps: over which the learning rate rises.
        seed: of draws, photons and first weights.
        report_every: steps between reports.
    """

    steps: int = 26000
    learning_rate: float = 4e-4
    warm_up_steps: int = 300
    seed: int = 0
    report_every: int = 500


@attrs.frozen(kw_only=True)
class Report:
    """Median relative squared error of the groups since the report before."""

    step: int
    error: float
    seconds: float

    def to_json(self) -> str:
        """One line."""
        return json.dumps(attrs.asdict(self))


def pretrain(
    settings: Settings, material: Material, *, first: Generator | None = None
) -> Iterator[tuple[Generator, Report]]:
    """Train the default network on simulated groups.

    Args:
        settings: how long and how.
        material: what groups are drawn from.
        first: network to go on with; a new one if None.

    Yields:
        The network, which goes on to change, and a report, every `report_every` steps and after the last.
    """
    torch.manual_seed(settings.seed)
    generator = build_generator(TorchModelConfig(), DataConfig()) if first is None else first
    optimizers = _Optimizers(generator)
    rng, photons = np.random.default_rng((settings.seed, 1)), torch.Generator().manual_seed(settings.seed)
    recent: list[Tensor] = []
    started = time.perf_counter()
    for step in tqdm(range(settings.steps), unit="group", mininterval=5):
        if isinstance(generator, Unrolled):
            generator.repeats = _REPEATS[step % len(_REPEATS)]
        recent.append(_learn(generator, draw_specimen(rng, material), photons))
        optimizers.step(settings.learning_rate * _schedule(step, settings))
        if len(recent) == settings.report_every or step == settings.steps - 1:
            error = float(torch.stack(recent).median())
            recent.clear()
            yield generator, Report(step=step + 1, error=error, seconds=time.perf_counter() - started)


def save_weights(generator: Generator, path: Path, notes: Mapping[str, str]) -> None:
    """Write weights as float16 safetensors, with notes in the file's header."""
    state = {name: value.to(torch.float16).contiguous() for name, value in generator.state_dict().items()}
    write_bytes(path, save(state, metadata=dict(notes)))


class _Optimizers:
    """Muon for the kernels, Adam for biases and step lengths."""

    def __init__(self, generator: Generator) -> None:
        self._parameters = list(generator.parameters())
        kernels, rest = split_parameters(self._parameters)
        self._muon, self._adam = Muon(kernels), torch.optim.Adam(rest)

    def step(self, learning_rate: float) -> None:
        """Change the parameters by their gradients, unless those are not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, _LARGEST_GRADIENT)
        if not torch.isfinite(norm):
            return
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._muon.step(learning_rate)


def _learn(generator: Generator, specimen: Specimen, photons: torch.Generator) -> Tensor:
    """Leave the gradients of one group's loss; return the relative squared error of the last draft."""
    group = expose(specimen, photons)
    with torch.autocast("cpu", torch.bfloat16):
        drafts = [draft.object for draft, _ in run_steps(generator, lambda: (group.view,), group.light)]
    errors = torch.stack([relative_error(draft, group) for draft in drafts])
    # The root keeps noisy groups, whose error is large whatever the network does, from ruling the gradient.
    roots = errors.add(_SMALLEST_ERROR).sqrt()
    amplitude = relative_amplitude_error(drafts[-1], group).add(_SMALLEST_ERROR).sqrt()
    generator.zero_grad()
    (roots[-1] + _DRAFT_WEIGHT * roots[:-1].mean() + _AMPLITUDE_WEIGHT * amplitude).backward()
    return errors[-1].detach()


def _schedule(step: int, settings: Settings) -> float:
    rise = min(1.0, (step + 1) / settings.warm_up_steps)
    return rise * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
