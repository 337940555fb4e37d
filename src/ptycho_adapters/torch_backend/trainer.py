"""From a payload and a scan to a trained model."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ptycho_adapters.torch_backend.autofocus import focus_probe
from ptycho_adapters.torch_backend.callbacks import GradientNorm, LossHistory, ProgressBar, Schedule
from ptycho_adapters.torch_backend.checkpoints import check_resumable, checkpoint_callbacks, keep_best
from ptycho_adapters.torch_backend.collapse import CollapseDetector
from ptycho_adapters.torch_backend.execution import (
    check_hardware,
    cpu_threads,
    process_state_restored,
    run_logger,
    trainer_arguments,
)
from ptycho_adapters.torch_backend.generalist import fits_generalist, pretrained_generator
from ptycho_adapters.torch_backend.generators import Generator, build_generator
from ptycho_adapters.torch_backend.groups import TrainingGroups, group_loader, training_groups
from ptycho_adapters.torch_backend.memory import check_patterns, check_training
from ptycho_adapters.torch_backend.module import PtychoModule
from ptycho_adapters.torch_backend.objective import main_term_name
from ptycho_adapters.torch_backend.probe import TrainableProbe, soft_disc
from ptycho_adapters.torch_backend.probe_refinement import ROUNDS_BEFORE_A_TRAINING, refine_probe
from ptycho_adapters.torch_backend.resident import Arms, ResidentScan, group_canvas
from ptycho_adapters.torch_backend.schedule import parse_duration_s
from ptycho_adapters.torch_backend.trained_model import EpochLosses, TrainedModel
from ptycho_adapters.torch_backend.whole_scan import PassFactory
from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from ptycho_core.payload import TrainingPayload
    from ptycho_core.scan import Scan

_log = logging.getLogger(__name__)

# Warnings that ask nothing of the caller: group indices need no loader processes, a rerun into a folder and a run that
# holds nothing out are meant so, and the last one is between Lightning and torch.
_ABOUT_ITSELF = (
    r"The '(train|val)_dataloader' does not have many workers",
    r"Checkpoint directory .* exists and is not empty",
    r"You defined a `validation_step` but have no `val_dataloader`",
    r".*isinstance\(treespec, LeafSpec\)",
)


def train(payload: TrainingPayload, scan: Scan, *, validation: Scan | None = None) -> TrainedModel:
    """Train a generator, and the probe along with it, on one scan.

    Progress goes to standard error, logs and checkpoints into the payload's output folder.

    Args:
        payload: resolved settings.
        scan: patterns to learn from.
        validation: another scan of the same instrument to validate on; by default a region of `scan` is held out.

    Returns:
        The trained model, on the CPU.

    Raises:
        ScanError: the scan does not fit the payload.
        ConfigError: the payload asks for what cannot be done.
        DependencyError: the accelerator is not there, or a logger's package is not installed.
        MemoryShortageError: the patterns or a batch do not fit into the memory that is free.
    """
    _check(payload, scan, validation)
    config = payload.pt_training_config
    groups = training_groups(payload, scan, validation)
    with process_state_restored(), _quiet_lightning(), cpu_threads(payload.execution_config.num_threads):
        torch.manual_seed(config.seed)
        check_patterns(payload, scan, groups)
        module = build_module(payload, scan, validation, groups)
        check_training(payload, module, scan, groups)
        history = LossHistory()
        trainer = build_trainer(payload, history, validates=bool(len(groups.validation)))
        resume = payload.execution_config.resume
        if resume is not None:
            check_resumable(resume, module)
        trainer.fit(
            module,
            group_loader(groups.train, payload, shuffle=not config.sequential_sampling),
            group_loader(groups.validation, payload, shuffle=False) if len(groups.validation) else None,
            ckpt_path=None if resume is None else str(resume),
        )
        _raise_if_interrupted(trainer)
        keep_best(trainer, module)
    return _trained(payload, scan, module, history)


def build_module(payload: TrainingPayload, scan: Scan, validation: Scan | None, groups: TrainingGroups) -> PtychoModule:
    """Build generator, probe and resident data.

    Raises:
        ScanError: supervised training without a known object.
        ConfigError: the probe's mask leaves no light, or no generator of that name is registered.
    """
    model = payload.pt_model_config
    main = main_term_name(payload)
    labelled = main == "supervised"
    resident = ResidentScan(scan, patterns=groups.of_training_scan(), labelled=labelled)
    held_out = resident
    if validation is not None:
        held_out = ResidentScan(validation, patterns=groups.of_validation_scan(), labelled=labelled)
    canvases = [group_canvas(resident.starts_on_host(), groups.train, scan.N)]
    if len(groups.validation):
        canvases.append(group_canvas(held_out.starts_on_host(), groups.validation, scan.N))
    mask = probe_mask(payload)
    if mask is not None and not (mask.numpy() * scan.probe).any():
        problem = Problem(path="probe_mask", expected="a mask that lets light pass", found="one that stops all of it")
        raise ConfigError("training", [problem])
    settings = payload.pt_training_config
    start = starting_network(payload)
    probe = _starting_probe(payload, scan, resident, np.unique(groups.train).astype(np.int64), start)
    canvas = attrs.evolve(canvases[0], height=max(c.height for c in canvases), width=max(c.width for c in canvases))
    return PtychoModule(
        start.generator,
        probe,
        Arms(training=resident, validation=held_out, canvas=canvas),
        settings,
        main=main,
        scale_trainable=model.intensity_scale_trainable,
    )


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
        steps = f"{model.unrolled_steps} steps, {model.unrolled_repeats} repeats"
        found = f"{model.architecture}, {steps}, n_filters_scale {model.n_filters_scale}"
        expected = "the default network, which the package's weights fit"
        raise ConfigError("training", [Problem(path="initial_weights", expected=expected, found=found)])
    if wanted != "random" and fits:
        return StartingNetwork(generator=pretrained_generator().train(), pretrained=True)
    return StartingNetwork(generator=build_generator(model, payload.pt_data_config), pretrained=False)


def _starting_probe(
    payload: TrainingPayload, scan: Scan, resident: ResidentScan, patterns: NDArray[np.int64], start: StartingNetwork
) -> TrainableProbe:
    """The scan's probe; if it is to be trained, focused and, under a network that can, refined."""
    settings, mask = payload.pt_training_config, probe_mask(payload)
    probe = TrainableProbe(scan.probe, resident.flux, mask)
    if not settings.probe_trainable:
        return probe
    if settings.probe_autofocus:
        focus = focus_probe(probe, resident, patterns, settings.background_counts)
        _log.info("focus of the probe changed by %.2f rad (root mean square)", focus)
    rounds = settings.probe_rounds
    if rounds is None:
        rounds = ROUNDS_BEFORE_A_TRAINING if start.pretrained else 0
    if rounds == 0:
        return probe
    make_pass = PassFactory(start.generator, resident, patterns, payload.execution_config, payload.pt_inference_config)
    with torch.no_grad():
        refined = refine_probe(make_pass(probe().numpy(), patterns), rounds)
    return TrainableProbe(refined.numpy(), resident.flux, mask)


def probe_mask(payload: TrainingPayload) -> Tensor | None:
    """Mask that the configuration multiplies to the probe."""
    model = payload.pt_model_config
    if not model.probe_mask:
        return None
    if model.probe_mask_tensor is not None:
        return torch.tensor(np.asarray(model.probe_mask_tensor, dtype=np.float32))
    size = payload.pt_data_config.N
    return soft_disc(size, model.probe_mask_diameter or size / 2, model.probe_mask_sigma)


def _check(payload: TrainingPayload, scan: Scan, validation: Scan | None) -> None:
    expected = f"{payload.pt_data_config.N} px patterns, as the payload says"
    scans = {"scan": scan} if validation is None else {"scan": scan, "validation": validation}
    problems = [
        Problem(path=f"{name}.N", expected=expected, found=f"{one.N} px")
        for name, one in scans.items()
        if payload.pt_data_config.N != one.N
    ]
    raise_if_any(ScanError, "training", problems)
    check_hardware(payload.execution_config)


def build_trainer(payload: TrainingPayload, history: LossHistory, *, validates: bool) -> Trainer:
    """Build the Trainer with everything that happens around the steps.

    Raises:
        ConfigError: Lightning cannot honour the execution settings, or the metric to watch does not exist.
        DependencyError: a logger's or an accelerator's package is not installed.
    """
    execution, config = payload.execution_config, payload.pt_training_config
    max_time_s = None if execution.max_time is None else parse_duration_s(execution.max_time)
    schedule = Schedule(config, max_time_s=max_time_s)
    callbacks: list[Callback] = [schedule, history, CollapseDetector()]
    if execution.enable_progress_bar:
        callbacks.append(ProgressBar(schedule))
    if config.log_grad_norm:
        callbacks.append(GradientNorm(config.grad_norm_log_freq))
    callbacks += checkpoint_callbacks(payload, validates=validates)
    logger = run_logger(execution, Path(config.output_dir), config)
    arguments = trainer_arguments(execution)
    try:
        return Trainer(max_epochs=config.epochs, callbacks=callbacks, logger=logger, **arguments)
    except (MisconfigurationException, ValueError) as error:
        asked = ", ".join(f"{key}={arguments[key]!r}" for key in ("accelerator", "devices", "strategy", "precision"))
        problem = Problem(path="execution_config", expected="what this machine can do", found=f"{asked}: {error}")
        raise ConfigError("training", [problem]) from error


def _raise_if_interrupted(trainer: Trainer) -> None:
    if trainer.interrupted:
        raise KeyboardInterrupt


@torch.no_grad()
def _trained(payload: TrainingPayload, scan: Scan, module: PtychoModule, history: LossHistory) -> TrainedModel:
    module = module.cpu().eval()
    probe = module.probe() * (0.5 * module.log_scale).exp()
    flux = module.training_scan.flux
    energy = float(np.square(np.abs(scan.probe)).sum(dtype=np.float64))
    mode = module.loss_name
    return TrainedModel(
        payload=payload,
        generator=module.generator,
        probe=probe.numpy(),
        start_probe=(scan.probe * np.sqrt(flux / energy)).astype(np.complex64),
        flux=flux,
        history=tuple(
            EpochLosses(
                epoch=epoch,
                train=values[f"{mode}_train_loss"],
                validation=values.get(f"{mode}_val_loss"),
                steps=steps,
            )
            for epoch, steps, values in history.rows
        ),
        code_version=VERSION,
    )


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
