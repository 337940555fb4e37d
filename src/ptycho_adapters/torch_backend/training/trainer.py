"""From a payload and a scan to a trained model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence  # noqa: TC003 - signatures are read at run time too
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy

from ptycho_adapters.common.bars import bars_drawn
from ptycho_adapters.common.checkpoint_files import forget_last
from ptycho_adapters.common.groups import training_set_for
from ptycho_adapters.common.identity import identity_of
from ptycho_adapters.common.schedule import TimeLimit
from ptycho_adapters.crew import Crew
from ptycho_adapters.stages import stage
from ptycho_adapters.torch_backend.data.arms import arms_of, as_found_out
from ptycho_adapters.torch_backend.data.groups import group_loader
from ptycho_adapters.torch_backend.execution import (
    check_hardware,
    check_logger,
    cpu_threads,
    process_state_restored,
    run_logger,
    trainer_arguments,
)
from ptycho_adapters.torch_backend.sharing import (
    FOUND_BY_US,
    PATIENCE,
    environment_plugins,
    joined,
    lost_processes_named,
    present_crew,
    told_by_the_first,
)
from ptycho_adapters.torch_backend.trained_model import TrainedModel  # noqa: TC001 - signatures are read at run time too
from ptycho_adapters.torch_backend.training.callbacks import (
    EpochLines,
    GradientNorm,
    LossHistory,
    ProgressBar,
    Schedule,
    TimeUp,
)
from ptycho_adapters.torch_backend.training.checkpoint_io import CheckpointFiles
from ptycho_adapters.torch_backend.training.checkpoints import checkpoint_callbacks, keep_best, resumed
from ptycho_adapters.torch_backend.training.collapse import PATTERNS_OF_A_LOOK, CollapseDetector
from ptycho_adapters.torch_backend.training.held_out import look_at_start
from ptycho_adapters.torch_backend.training.memory import check_patterns, check_training
from ptycho_adapters.torch_backend.training.module import PtychoModule
from ptycho_adapters.torch_backend.training.outcome import trained_model
from ptycho_adapters.torch_backend.training.starting_point import (
    ProbeTime,
    started_alike,
    starting_network,
    starting_scan,
)
from ptycho_adapters.torch_backend.training.within_epochs import EpochLoss, StepCheckpoints
from ptycho_core.callers import warn_caller
from ptycho_core.config.main_term import main_term_name
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.payload import TrainingPayload  # noqa: TC001 - signatures are read at run time too
from ptycho_core.errors import ConfigError, Problem
from ptycho_core.measurement.scan import Scan  # noqa: TC001 - signatures are read at run time too

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.torch_backend.training.held_out import Start

_MOST_FOR_PROBES = 0.5  # of the time that a run may take
# A network that learns under a probe out of focus unlearns what it knows about probes in focus.
_NO_TIME = (
    "max_time is so short that half of it was over before the first round of the probe: nothing was trained, and the "
    "model is what the training would have started from; give it more time, or probe_rounds 0 for a probe that is right"
)
# Warnings that ask nothing of the caller: group indices need no loader processes, a rerun into a folder and a run that
# holds nothing out are meant so, one is between Lightning and torch, the sampler knows what an epoch has had, and
# weights that lie otherwise in memory are sent all the same.
_ABOUT_ITSELF = (
    r"The '(train|val)_dataloader' does not have many workers",
    r"Checkpoint directory .* exists and is not empty",
    r"You defined a `validation_step` but have no `val_dataloader`",
    r".*isinstance\(treespec, LeafSpec\)",
    r"You're resuming from a checkpoint that ended before the epoch ended",
    r"Grad strides do not match bucket view strides",
)


def train(
    payload: TrainingPayload,
    scan: Scan | Sequence[Scan],
    *,
    validation: Scan | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainedModel:
    """Train a generator on one or several scans, and along with it the probe of each.

    Several scans share the network and nothing else: each has its own probe, which starts from the scan's and is
    focused and refined by itself, and its own flux, bad pixels and groups. The scans take turns batch by batch.
    Numbers of groups and patterns and the share held out are meant for each scan. Progress goes to standard error,
    logs and checkpoints into the payload's output folder.

    Args:
        payload: resolved settings. The files that it names are for the caller to read.
        scan: patterns to learn from; a sequence of scans is learned from together.
        validation: another scan of the same instrument to validate on, under the probe of the first scan; by default a
            region of every scan is held out.
        callbacks: of Lightning, called after our own.

    Returns:
        The trained model, on the CPU.

    Raises:
        ScanError: a scan does not fit the payload; every misfit is listed.
        ConfigError: the payload asks for what cannot be done.
        DependencyError: the accelerator is not there, or a logger's package is not installed.
        MemoryShortageError: the patterns or a batch do not fit into the memory that is free.
        NotFiniteError: neither the start nor any epoch that can be kept has a finite held-out loss.

    Warns:
        UserWarning: the time limit left no round for a probe that was to have some, so that nothing was trained.
    """
    return train_on(payload, training_set_for(payload, scan, validation=validation), callbacks=callbacks)


def train_on(payload: TrainingPayload, data: TrainingSet, *, callbacks: Sequence[Callback] = ()) -> TrainedModel:
    """Train as `train` does, on groups that have been drawn already.

    Args:
        payload: resolved settings, those that the groups were drawn with.
        data: scans and groups, from `training_set_for`.
        callbacks: of Lightning, called after our own.

    Returns:
        The trained model, on the CPU.

    Raises:
        ConfigError: the payload asks for what cannot be done.
        DependencyError: the accelerator is not there, or a logger's package is not installed.
        MemoryShortageError: the patterns or a batch do not fit into the memory that is free.
        NotFiniteError: neither the start nor any epoch that can be kept has a finite held-out loss.

    Warns:
        UserWarning: the time limit left no round for a probe that was to have some, so that nothing was trained.
    """
    check_hardware(payload.execution_config)
    check_logger(payload.execution_config)
    with _quiet_lightning():
        crew = joined(payload.execution_config)
    with (
        process_state_restored(),
        _quiet_lightning(),
        cpu_threads(payload.execution_config.num_threads),
        lost_processes_named(crew),
        bars_drawn(wanted=payload.execution_config.enable_progress_bar),
    ):
        return _trained_together(payload, data, crew, callbacks)


def _trained_together(
    payload: TrainingPayload, data: TrainingSet, crew: Crew, callbacks: Sequence[Callback]
) -> TrainedModel:
    """Train as one of the processes of a run, or as the only one."""
    limit = TimeLimit(payload.execution_config.max_time)
    torch.manual_seed(payload.pt_training_config.seed)
    check_patterns(payload, data)
    module = build_module(payload, data, limit, crew)
    check_training(payload, module, data)
    history, start = LossHistory(), told_by_the_first(look_at_start(module, payload, data.groups, limit), crew)
    tail_s, steps = _tail_s(start, len(data.scans)), StepCheckpoints(payload, identity_of(payload, data), limit.now)
    around = [steps, *callbacks] if payload.execution_config.enable_checkpointing else callbacks
    trainer = build_trainer(payload, history, limit, validates=data.validates, tail_s=tail_s, callbacks=around)
    with stage("training", scans=len(data.scans), epochs=payload.pt_training_config.epochs) as course:
        _fit(trainer, module, payload, data, start, steps)
        course.count(steps=trainer.global_step)
        if trainer.global_step:
            course.count(device=str(trainer.strategy.root_device))
    selection = keep_best(trainer, module, start, history.held_out(module.loss_name))
    return attrs.evolve(trained_model(payload, data.scans, module, history), selection=selection)


def _tail_s(start: Start, n_scans: int) -> float:
    """Give the seconds after the last step: one more look at what is held out, and one for a collapse."""
    if not start.n_patterns:
        return 0.0
    return start.seconds * (1.0 + n_scans * PATTERNS_OF_A_LOOK / start.n_patterns)


def build_module(
    payload: TrainingPayload, data: TrainingSet, limit: TimeLimit | None = None, crew: Crew | None = None
) -> PtychoModule:
    """Build generator, probes and resident data.

    What is found out about a scan before the training, the first of several processes finds out for all of them: it
    hangs on the time that there is, and all have to train on the same.

    Args:
        payload: resolved settings.
        data: scans and groups.
        limit: of the whole run; refining all probes takes at most half of it.
        crew: the processes that train; this one alone by default.

    Raises:
        ScanError: supervised training without a known object.
        ConfigError: the probe's mask leaves no light, or no generator of that name is registered.
    """
    main = main_term_name(payload)
    arms = arms_of(data, labelled=main == "supervised", find_beam=payload.pt_training_config.beam_search)
    start, limit = starting_network(payload), limit or TimeLimit()
    shares = np.linspace(0.0, _MOST_FOR_PROBES, len(data.scans) + 1)[1:].tolist()
    crew = crew or Crew()
    work = zip(data.scans, data.groups, arms.training, shares, strict=True)
    first = [
        starting_scan(payload, scan, arm.patterns, groups.train, start, ProbeTime(limit=limit, until=share))
        for scan, groups, arm, share in (work if crew.leads else ())
    ]
    found = started_alike(first, [arm.patterns for arm in arms.training], crew)
    module = PtychoModule(
        start.generator,
        [each.probe for each in found],
        as_found_out(arms, data, [(each.patterns, each.background) for each in found]),
        payload.pt_training_config,
        main=main,
        scale_trainable=payload.pt_model_config.intensity_scale_trainable,
    )
    module.settled = all(each.settled for each in found)
    module.findings = tuple(each.findings for each in found)
    return module


def _fit(
    trainer: Trainer,
    module: PtychoModule,
    payload: TrainingPayload,
    data: TrainingSet,
    start: Start,
    steps: StepCheckpoints,
) -> None:
    """Run the epochs, from the start or from a checkpoint; none where the probe it starts from is no start."""
    before = resumed(payload, module, steps.identity)
    if before is None:
        forget_last(payload)
        if not module.settled:
            warn_caller(_NO_TIME, UserWarning)
            return
    in_order = payload.pt_training_config.sequential_sampling
    groups, done = [groups.train for groups in data.groups], 0 if before is None else before.batches
    of_training, of_validation = (
        [arm.patterns for arm in arms] for arms in (module.arms.training, module.arms.validation)
    )
    try:
        trainer.fit(
            module,
            group_loader(groups, payload, of_training, shuffle=not in_order, done=done),
            group_loader(start.groups, payload, of_validation, shuffle=False) if data.validates else None,
            ckpt_path=None if before is None else str(before.path),
        )
    finally:
        steps.stop.pass_on()
    if trainer.interrupted:
        raise KeyboardInterrupt


class _Shared(DDPStrategy):
    """Takes the mean of the gradients over all processes."""

    def configure_ddp(self) -> None:
        """Look for what has no gradient: of several scans a step sees one, under its own probe, in all processes."""
        module = self.lightning_module
        if isinstance(module, PtychoModule) and len(module.probes) > 1:
            self._ddp_kwargs["find_unused_parameters"] = True
        super().configure_ddp()


def build_trainer(
    payload: TrainingPayload,
    history: LossHistory,
    limit: TimeLimit,
    *,
    validates: bool,
    tail_s: float = 0.0,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Build the Trainer with everything that happens around the steps.

    Args:
        payload: resolved settings.
        history: takes down the losses.
        limit: of the whole run.
        validates: whether something is held out.
        tail_s: seconds of the limit to leave for what comes after the last step.
        callbacks: further ones, called last.

    Raises:
        ConfigError: Lightning cannot honour the execution settings, or the metric to watch does not exist.
        DependencyError: a logger's or an accelerator's package is not installed.
    """
    execution, config, crew = payload.execution_config, payload.pt_training_config, present_crew()
    schedule = Schedule(config, limit, tail_s)
    loss = EpochLoss(f"{main_term_name(payload)}_train_loss")
    own: list[Callback] = [loss, schedule, history, CollapseDetector(), EpochLines()]
    if execution.max_time is not None:
        own.append(TimeUp(schedule))
    if crew.leads:
        own.append(ProgressBar(schedule))
    if config.log_grad_norm:
        own.append(GradientNorm(config.grad_norm_log_freq))
    own += [*checkpoint_callbacks(payload, validates=validates), *callbacks]
    logger = run_logger(execution, Path(config.output_dir), config)
    arguments = trainer_arguments(execution, crew)
    # One device is one process, whatever else a job of SLURM was given.
    alone = crew.count == 1 and execution.devices == 1 and SLURMEnvironment.detect()
    plugins = [LightningEnvironment()] if alone else environment_plugins()
    if crew.count > 1 and execution.strategy in FOUND_BY_US:
        # Of our own networks every weight has a gradient in every step; of another one nobody knows.
        foreign = isinstance(payload.pt_model_config.architecture, PackageGenerator)
        arguments["strategy"] = _Shared(find_unused_parameters=foreign, timeout=PATIENCE)
    try:
        return Trainer(
            max_epochs=config.epochs,
            callbacks=own,
            logger=logger,
            plugins=[CheckpointFiles(), *plugins],
            **arguments,
        )
    except (MisconfigurationException, ValueError) as error:
        asked = ", ".join(f"{key}={arguments[key]!r}" for key in ("accelerator", "devices", "strategy", "precision"))
        problem = Problem(path="execution_config", expected="what this machine can do", found=f"{asked}: {error}")
        raise ConfigError("training", [problem]) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's banners, and its warnings about itself, out of a run; its other warnings still show."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _ABOUT_ITSELF:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
