"""A small simulated scan, payloads for it, and trainings that are looked at while they run."""

from __future__ import annotations

import csv
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from ptycho_adapters.common.groups import training_set
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_adapters.torch_backend.trained_model import TrainedModel
from ptycho_adapters.torch_backend.training.checkpoints import checkpoint_callbacks
from ptycho_adapters.torch_backend.training.trainer import build_module, train
from ptycho_core.config import PyTorchExecutionConfig
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.table import TRAINING
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from torch.optim import Optimizer

    from ptycho_adapters.torch_backend.data.groups import GroupBatch
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.measurement.scan import Scan

TRAINER = "ptycho_adapters.torch_backend.training.trainer"
SMALL: Mapping[str, object] = {
    "n_groups": 6,
    "gridsize": 2,
    "neighbor_count": 6,
    "batch_size": 2,
    "epochs": 1,
    "architecture": "unet",
    "n_filters_scale": 1,
    "validation_fraction": 0.12,
    "learning_rate": 2e-3,
    "probe_learning_rate": None,
    "probe_autofocus": False,
    "gradient_clip_val": None,
    "scheduler": "Default",
}
QUIET: Mapping[str, object] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "logger_backend": None,
}


@cache
def tiny_scan() -> Scan:
    """36 patterns of 64 px at sub-pixel positions of a small object under a curved ring-shaped probe."""
    return simulate(SimulationConfig(object_size_px=101, step_px=6.0, jitter_px=1.0, photons=1e5))


def payload_for(
    output_dir: Path, overrides: Mapping[str, object] | None = None, **execution: object
) -> TrainingPayload:
    """Settings for a quick training on the tiny scan: 5 groups of 4 in 3 batches, 4 patterns held out, no files."""
    settings = {**QUIET, **execution}
    given = overrides or {}
    said = {TRAINING.key(name) for name in given}
    kept = {name: value for name, value in SMALL.items() if TRAINING.key(name) not in said}
    return resolve_training(
        ScanFacts(path=Path("scan.npz"), N=64),
        {**kept, **given},
        PyTorchExecutionConfig(**settings),  # type: ignore[arg-type]
        output_dir=output_dir,
    )


def quick_training(
    output_dir: Path, overrides: Mapping[str, object] | None = None, **execution: object
) -> TrainedModel:
    """Train on the tiny scan."""
    return train(payload_for(output_dir, overrides, **execution), tiny_scan())


def module_of(payload: TrainingPayload, scan: Scan | None = None) -> PtychoModule:
    """The module that a training of a scan, by default the tiny one, starts from."""
    scan = scan or tiny_scan()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(payload.pt_training_config.seed)
        return build_module(payload, training_set(payload, [scan]))


@attrs.define
class FakeClock:
    """A clock that stands still but for the time that steps and looks at it are said to take.

    Attributes:
        step_s: of every optimiser step of an observed training.
        look_s: of every look.
        now_s: what it shows.
    """

    step_s: float = 0.0
    look_s: float = 0.0
    now_s: float = 0.0

    def __call__(self) -> float:
        """Look at it."""
        self.now_s += self.look_s
        return self.now_s


class Observer(Callback):
    """Writes down what a training does.

    Attributes:
        clock: goes on with every optimiser step.
        times_s: what the clock shows at every training batch.
        trainers: the one Trainer.
        rates: learning rate of every parameter group at every optimiser step.
        batches: groups of scan indices of every training batch.
        scans: number of the scan of every training batch.
        held_out: the same of every validation batch.
        threads: torch's CPU threads at every training batch.
        deterministic: at every training batch, whether torch wants deterministic kernels, and whether it only warns.
        gradients: gradient of the network, flat, as the optimiser saw it.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.times_s: list[float] = []
        self.trainers: list[Trainer] = []
        self.rates: list[dict[str, float]] = []
        self.batches: list[npt.NDArray[np.int64]] = []
        self.scans: list[int] = []
        self.held_out: list[npt.NDArray[np.int64]] = []
        self.threads: list[int] = []
        self.deterministic: list[tuple[bool, bool]] = []
        self.gradients: list[npt.NDArray[np.float32]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the Trainer."""
        self.trainers.append(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take down the learning rates, and let time pass."""
        self.clock.now_s += self.clock.step_s
        self.rates.append({group["name"]: float(group["lr"]) for group in optimizer.param_groups})

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Take down the time, the batch and torch's switches."""
        self.times_s.append(self.clock.now_s)
        self.batches.append(batch.indices.numpy())
        self.scans.append(batch.scan)
        self.threads.append(torch.get_num_threads())
        self.deterministic.append(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        )

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: GroupBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take down the batch."""
        self.held_out.append(batch.indices.numpy())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: GroupBatch, batch_idx: int
    ) -> None:
        """Take down the bounded gradients, which stay until the next step."""
        network = (p for name, p in pl_module.named_parameters() if name.startswith("generator."))
        self.gradients.append(torch.cat([p.grad.reshape(-1) for p in network if p.grad is not None]).numpy().copy())


@attrs.frozen(kw_only=True, eq=False)
class Observed:
    """A finished training and what was seen of it."""

    model: TrainedModel
    trainer: Trainer
    observer: Observer

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser, with its groups and state."""
        return self.trainer.optimizers[0]

    def options(self, group: str) -> dict[str, object]:
        """Options of one of the optimiser's groups."""
        (found,) = [options for options in self.optimizer.param_groups if options["name"] == group]
        return found


def observed_training(
    payload: TrainingPayload,
    scans: Sequence[Scan] = (),
    *,
    validation: Scan | None = None,
    clock: FakeClock | None = None,
) -> Observed:
    """Train, by default on the tiny scan, with one more callback that only looks on, by a clock that can be given."""
    observer = Observer(clock or FakeClock())

    def watched(given: TrainingPayload, *, validates: bool) -> list[Callback]:
        return [observer, *checkpoint_callbacks(given, validates=validates)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{TRAINER}.checkpoint_callbacks", watched)
        patch.setattr(f"{TRAINER}.TimeLimit", partial(TimeLimit, now=observer.clock))
        model = train(payload, scans or tiny_scan(), validation=validation)
    return Observed(model=model, trainer=observer.trainers[0], observer=observer)


def weights(model: TrainedModel) -> npt.NDArray[np.float32]:
    """All weights of the network, flat."""
    values: npt.NDArray[np.float32] = torch.cat([p.detach().reshape(-1) for p in model.generator.parameters()]).numpy()
    return values


def same(first: TrainedModel, second: TrainedModel) -> bool:
    """Whether two trainings gave bit-identical results."""
    return (
        np.array_equal(weights(first), weights(second))
        and len(first.probes) == len(second.probes)
        and all(np.array_equal(one.probe, two.probe) for one, two in zip(first.probes, second.probes, strict=True))
        and first.history == second.history
    )


def metrics_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the only CSV log below a folder."""
    (file,) = folder.rglob("metrics.csv")
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))
