"""The loop that trains the shipped weights: supervised, a batch of simulated groups a step."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from safetensors.torch import load, save
from tqdm import tqdm

from ptycho_adapters.atomic import write_bytes
from ptycho_adapters.pretraining.checkpoints import Checkpoint, Progress, check_unchanged
from ptycho_adapters.pretraining.muon import Muon, split_parameters
from ptycho_adapters.pretraining.operations import OperationCounter
from ptycho_adapters.pretraining.recipe import draw_batches
from ptycho_adapters.pretraining.resident import to_device
from ptycho_adapters.pretraining.simulated_groups import expose, relative_amplitude_errors, relative_errors
from ptycho_adapters.torch_backend.execution import network_precision
from ptycho_adapters.torch_backend.generators import build_generator, run_steps
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_core.config import DataConfig, TorchModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.recipe import Specimen
    from ptycho_adapters.pretraining.settings import Settings
    from ptycho_adapters.pretraining.simulated_groups import SimulatedGroups
    from ptycho_adapters.pretraining.validation import Validation
    from ptycho_adapters.torch_backend.generators import Generator

_DRAFT_WEIGHT, _AMPLITUDE_WEIGHT = 0.3, 0.4
_REPEATS = (1, 2)  # in turn: the weights then serve either
_SMALLEST_ERROR = 1e-5
_LARGEST_GRADIENT = 0.5
_BATCHES = 8  # are drawn at once, so that each can hold groups that are alike


@attrs.frozen(kw_only=True)
class Report:
    """How good the network is.

    Attributes:
        step: how many are done.
        error: median relative squared error of the groups since the report before.
        sound_error: geometric mean over fresh groups without faults.
        faulty_error: the same with faults.
        operations: counted so far, by `OperationCounter`.
        seconds: of the run so far, in all its pieces.
    """

    step: int
    error: float
    sound_error: float
    faulty_error: float
    operations: int
    seconds: float

    def to_json(self) -> str:
        """One line."""
        return json.dumps(attrs.asdict(self))


class Pretraining:
    """The default network in training on simulated groups.

    Draws and photons of a step are a function of the seed and of the step, so that a run in pieces is the same as one
    in one piece, to the last bit on a CPU.

    Args:
        settings: how long and how.
        material: what groups are drawn from.
        validation: what reports judge by.
        device: for simulation and training.

    Attributes:
        generator: the network.
        progress: how far it has come.
    """

    def __init__(self, settings: Settings, material: Material, validation: Validation, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.progress = Progress(settings=settings)
        self.generator = build_generator(TorchModelConfig(), DataConfig())
        if settings.first is not None:
            self.generator.load_state_dict(_read_weights(Path(settings.first)))
        self.generator.to(device)
        self._optimizers = _Optimizers(self.generator)
        self._material, self._resident, self._validation = material, to_device(material, device), validation
        self._photons = torch.Generator(device)
        self._counter = OperationCounter()
        self._recent: list[Tensor] = []
        self._batches: list[list[Specimen]] = []

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.progress.step >= self.progress.settings.steps

    def run(
        self, *, max_seconds: float | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> Iterator[Report]:
        """Train to the end, or for some seconds; at least one step.

        Yields:
            A report every `report_every` steps and after the last.
        """
        settings, before, started = self.progress.settings, self.progress.seconds, clock()
        steps = range(self.progress.step, settings.steps)
        for step in tqdm(steps, initial=steps.start, total=steps.stop, unit="step", mininterval=5):
            operations = self._step(step)
            self.progress = attrs.evolve(
                self.progress,
                step=step + 1,
                operations=self.progress.operations + operations,
                seconds=before + clock() - started,
            )
            if (step + 1) % settings.report_every == 0 or self.finished:
                yield self._report()
            if max_seconds is not None and clock() - started >= max_seconds:
                return

    def checkpoint(self) -> Checkpoint:
        """Give all that the run needs to go on."""
        weights = {f"weights.{name}": value for name, value in self.generator.state_dict().items()}
        tensors = weights | self._optimizers.state()
        if self._recent:
            tensors["recent"] = torch.stack(self._recent)
        return Checkpoint(progress=attrs.evolve(self.progress, per_pixel=self._counter.per_pixel), tensors=tensors)

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Take up a run from a checkpoint.

        Raises:
            ConfigError: it was written under other settings.
        """
        check_unchanged(self.progress.settings, checkpoint)
        tensors = checkpoint.tensors
        self.progress = checkpoint.progress
        self.generator.load_state_dict(_below("weights.", tensors))
        self._optimizers.load(tensors)
        self._counter = OperationCounter(checkpoint.progress.per_pixel)
        self._recent = [*tensors["recent"].to(self._resident.device)] if "recent" in tensors else []
        self._batches = []

    def _step(self, step: int) -> int:
        """Change the weights once; return the operations."""
        settings = self.progress.settings
        if isinstance(self.generator, Unrolled):
            self.generator.repeats = _REPEATS[step % len(_REPEATS)]
        self._photons.manual_seed(_seed(settings.seed, 2, step))
        groups = expose(self._batch(step), self._resident, self._photons)
        errors, operations = self._counter.count(len(self.generator.steps()), groups, self._learn)
        self._recent.append(errors)
        self._optimizers.step(settings.learning_rate * _schedule(step, settings))
        return operations

    def _batch(self, step: int) -> list[Specimen]:
        """Give what a step learns from."""
        settings = self.progress.settings
        batches = 1 if settings.batch_size == 1 else _BATCHES
        turn, place = divmod(step, batches)
        if place == 0 or not self._batches:
            rng = np.random.default_rng((settings.seed, 1, turn))
            self._batches = draw_batches(rng, self._material, batches=batches, groups=settings.batch_size)
        return self._batches[place]

    def _learn(self, groups: SimulatedGroups) -> Tensor:
        """Leave the gradients of a batch's loss; return the relative squared errors (B,) of the last drafts."""
        with network_precision(self.progress.settings.precision, groups.light.device):
            drafts = [draft.object for draft, _ in run_steps(self.generator, lambda: (groups.view,), groups.light)]
        errors = torch.stack([relative_errors(draft, groups) for draft in drafts])
        # The root keeps noisy groups, whose error is large whatever the network does, from ruling the gradient.
        roots = errors.add(_SMALLEST_ERROR).sqrt()
        amplitude = relative_amplitude_errors(drafts[-1], groups).add(_SMALLEST_ERROR).sqrt()
        self.generator.zero_grad()
        (roots[-1] + _DRAFT_WEIGHT * roots[:-1].mean(dim=0) + _AMPLITUDE_WEIGHT * amplitude).mean().backward()
        return errors[-1].detach()

    def _report(self) -> Report:
        error = float(torch.cat(self._recent).median())
        self._recent = []
        if isinstance(self.generator, Unrolled):
            self.generator.repeats = max(_REPEATS)
        sound, faulty = self._validation.errors(self.generator)
        done = self.progress
        return Report(
            step=done.step,
            error=error,
            sound_error=sound,
            faulty_error=faulty,
            operations=done.operations,
            seconds=done.seconds,
        )


def save_weights(generator: Generator, path: Path, notes: Mapping[str, str]) -> None:
    """Write weights as float16 safetensors, with notes in the file's header."""
    state = {name: value.to("cpu", torch.float16).contiguous() for name, value in generator.state_dict().items()}
    write_bytes(path, save(state, metadata=dict(notes)))


class _Optimizers:
    """Muon for the kernels, Adam for biases and step lengths."""

    def __init__(self, generator: Generator) -> None:
        self._parameters = list(generator.parameters())
        kernels, rest = split_parameters(self._parameters)
        self._muon, self._adam = Muon(kernels), torch.optim.Adam(rest)

    def step(self, learning_rate: float) -> None:
        """Change the parameters by their gradients, which count as zero if they are not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, _LARGEST_GRADIENT)
        finite = torch.isfinite(norm)  # stays on the device: to look at it here would make every step wait
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(finite, parameter.grad, 0.0)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._muon.step(learning_rate)

    def state(self) -> dict[str, Tensor]:
        """Give running means by name."""
        adam = {
            f"adam.{index}.{name}": value
            for index, values in self._adam.state_dict()["state"].items()
            for name, value in values.items()
        }
        return adam | {f"muon.{index}": mean for index, mean in enumerate(self._muon.state())}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take running means over."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("adam.", tensors).items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        self._adam.load_state_dict({"state": state, "param_groups": self._adam.state_dict()["param_groups"]})
        means = _below("muon.", tensors)
        self._muon.load([means[str(index)] for index in range(len(means))])


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read_weights(path: Path) -> dict[str, Tensor]:
    return {name: value.float() for name, value in load(path.read_bytes()).items()}


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _schedule(step: int, settings: Settings) -> float:
    rise = min(1.0, (step + 1) / settings.warm_up_steps)
    return rise * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
