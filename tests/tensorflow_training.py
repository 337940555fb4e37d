"""Trainings of TensorFlow whose network is a stand-in that takes down what it is given, so that they take no time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from ptycho_adapters import tensorflow_backend
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_adapters.tensorflow_backend.generators.build import build_generator
from ptycho_adapters.tensorflow_backend.training import trainer
from ptycho_core.config import PyTorchExecutionConfig
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from tensorflow_sample import AS_GIVEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ptycho_adapters.tensorflow_backend.generators.base import Generator
    from ptycho_adapters.tensorflow_backend.training.step import Arm
    from ptycho_core.config import TorchTrainingConfig
    from ptycho_core.measurement.scan import Scan

QUIET: dict[str, object] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "logger_backend": None,
}
MINUTE: dict[str, object] = {
    **AS_GIVEN,
    "n_groups": 6,
    "gridsize": 2,
    "neighbor_count": 6,
    "batch_size": 2,
    "epochs": 1,
    "n_filters_scale": 1,
    "unrolled_steps": 1,
    "unrolled_repeats": 0,
    "validation_fraction": 0.12,
    "learning_rate": 2e-3,
    "scheduler": "Default",
    "probe_trainable": False,
    "initial_weights": "random",
}


def noisy(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same weights and a little of everything, so that every layer does something."""
    random = np.random.default_rng(1)
    return {
        name: value + 0.02 * random.standard_normal(value.shape).astype(np.float32) for name, value in weights.items()
    }


def with_noise(generator: Generator, payload: TrainingPayload) -> Generator:
    """The same network with weights that do something in every layer."""
    return build_generator(payload.pt_model_config, payload.pt_data_config, noisy(generator.weights))


def small_scan() -> Scan:
    """36 patterns of 16 px."""
    return simulate(SimulationConfig(N=16, object_size_px=53, step_px=6.0, jitter_px=1.0, photons=1e5))


def minute_payload(
    folder: Path, overrides: dict[str, object] | None = None, size_px: int = 16, **execution: object
) -> TrainingPayload:
    """Settings for about 5 groups of 4 in 3 batches, 4 patterns held out, no files; a cnn's are those of no other."""
    how = PyTorchExecutionConfig(**{**QUIET, **execution})  # type: ignore[arg-type] # values of its own fields
    said = {**MINUTE, "backend": "tensorflow", **(overrides or {})}
    if said.get("architecture") == "cnn":
        said = {name: value for name, value in said.items() if not name.startswith("unrolled_")}
    return resolve_training(ScanFacts(path=Path("scan.npz"), N=size_px), said, how, output_dir=folder)


@attrs.define
class FakeClock:
    """Seconds that go on by steps."""

    step_s: float = 0.0
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def falling(steps: int) -> float:
    """A loss that falls."""
    return 2.0 / (1 + steps)


class Learner:
    """In the place of the network: every step adds one to each weight, and the loss is a function of the steps."""

    def __init__(
        self, generator: Generator, config: TorchTrainingConfig, loss: Callable[[int], float], clock: FakeClock
    ) -> None:
        self.generator, self.config, self._loss, self._clock = generator, config, loss, clock
        self.values: dict[str, NDArray[Any]] = {name: value.copy() for name, value in generator.weights.items()}
        self.batches: list[NDArray[np.integer]] = []
        self.looks: list[NDArray[np.integer]] = []
        self.rates: list[float] = []
        self.learned_from: list[Arm] = []
        self.looked_at: list[Arm] = []
        self.steps = 0

    def learn(self, arm: Arm, groups: NDArray[np.integer], rate: float) -> float:
        """Take a step down."""
        self.batches.append(groups)
        self.rates.append(rate)
        self.learned_from.append(arm)
        self._clock.now_s += self._clock.step_s
        before = self._loss(self.steps)
        self.values = {name: np.asarray(value + np.float32(1)) for name, value in self.values.items()}
        self.steps += 1
        return before

    def judge(self, arm: Arm, groups: NDArray[np.integer]) -> float:
        """Give the loss."""
        self.looks.append(groups)
        self.looked_at.append(arm)
        return self._loss(self.steps)

    def weights(self) -> dict[str, NDArray[Any]]:
        """Give the weights."""
        return self.values

    def state(self) -> dict[str, NDArray[Any]]:
        """Give weights and steps."""
        weights = {f"generator.{name}": value for name, value in self.values.items()}
        return {**weights, "optimizer.steps": np.asarray(self.steps, np.float32)}

    def take_up(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from there."""
        self.values = {name: state[f"generator.{name}"] for name in self.values}
        self.steps = int(state["optimizer.steps"])


@attrs.frozen(eq=False)
class Observed:
    """A training and what its network was given."""

    model: tensorflow_backend.TrainedModel
    learner: Learner


def observed(
    payload: TrainingPayload,
    scan: Scan | None = None,
    *,
    validation: Scan | None = None,
    clock: FakeClock | None = None,
    loss: Callable[[int], float] = falling,
    counts_memory: bool = False,
) -> Observed:
    """Train on the small scan, or another one, with the stand-in; a batch's memory is not counted unless asked for."""
    made: list[Learner] = []
    time = FakeClock() if clock is None else clock

    def learner(generator: Generator, config: TorchTrainingConfig) -> Learner:
        made.append(Learner(generator, config, loss, time))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Learner", learner)
        patch.setattr(trainer, "TimeLimit", partial(TimeLimit, now=time))
        if not counts_memory:
            patch.setattr(trainer, "check_training", lambda *_: None)
        model = tensorflow_backend.train(payload, small_scan() if scan is None else scan, validation=validation)
    return Observed(model=model, learner=made[0])
