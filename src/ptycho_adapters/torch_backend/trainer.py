"""From a payload and a scan to a trained model."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from ptycho_adapters.torch_backend.callbacks import GradientNorm, LossHistory, ProgressBar, Schedule
from ptycho_adapters.torch_backend.execution import run_logger, trainer_arguments
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.module import PtychoModule
from ptycho_adapters.torch_backend.probe import TrainableProbe, soft_disc
from ptycho_adapters.torch_backend.resident import Arms, ResidentScan, group_canvas
from ptycho_adapters.torch_backend.schedule import parse_duration_s
from ptycho_adapters.torch_backend.trained_model import EpochLosses, TrainedModel
from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.grouping import Grouping, Groups, group_scan
from ptycho_core.splitting import split_region
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ptycho_core.payload import TrainingPayload
    from ptycho_core.scan import Scan

CHECKPOINT_FOLDER = "checkpoints"


@attrs.frozen(kw_only=True, eq=False)
class TrainingGroups:
    """Groups of scan indices to train on and to validate on; the latter may be empty."""

    train: NDArray[np.int32]
    validation: NDArray[np.int32]


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
        DependencyError: a logger's package is not installed.
    """
    _check(payload, scan, validation)
    config = payload.pt_training_config
    groups = training_groups(payload, scan, validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = build_module(payload, scan, validation, groups)
        history = LossHistory()
        with _quiet_lightning(), _deterministic_algorithms_restored():
            trainer = _build_trainer(payload, history, validates=bool(len(groups.validation)))
            resume = payload.execution_config.resume
            trainer.fit(
                module,
                _loader(groups.train, payload, shuffle=not config.sequential_sampling),
                _loader(groups.validation, payload, shuffle=False) if len(groups.validation) else None,
                ckpt_path=None if resume is None else str(resume),
            )
            _raise_if_interrupted(trainer)
            _keep_better(trainer, module)
    return _trained(payload, scan, module, history)


def training_groups(payload: TrainingPayload, scan: Scan, validation: Scan | None) -> TrainingGroups:
    """Hold out a region, then draw groups on either side of the border: none crosses it."""
    config = payload.pt_training_config
    wanted = config.n_groups or scan.n_patterns
    if validation is not None:
        held_out = _draw(payload, validation, min(wanted, validation.n_patterns))
        return TrainingGroups(train=_draw(payload, scan, wanted).indices, validation=held_out.indices)
    split = split_region(scan.positions_px, config.validation_fraction)
    share = len(split.train) / scan.n_patterns
    inside = _draw(payload, scan.subset(split.train), max(1, round(wanted * share)))
    if not len(split.validation):
        return TrainingGroups(train=inside.indices, validation=inside.indices[:0])
    held_out = _draw(payload, scan.subset(split.validation), max(1, min(len(split.validation), wanted)))
    return TrainingGroups(
        train=split.train[inside.indices].astype(np.int32),
        validation=split.validation[held_out.indices].astype(np.int32),
    )


def build_module(payload: TrainingPayload, scan: Scan, validation: Scan | None, groups: TrainingGroups) -> PtychoModule:
    """Build generator, probe and resident data."""
    model = payload.pt_model_config
    resident = ResidentScan(scan)
    held_out = resident if validation is None else ResidentScan(validation)
    canvases = [group_canvas(resident.starts_on_host(), groups.train, scan.N)]
    if len(groups.validation):
        canvases.append(group_canvas(held_out.starts_on_host(), groups.validation, scan.N))
    canvas = attrs.evolve(canvases[0], height=max(c.height for c in canvases), width=max(c.width for c in canvases))
    return PtychoModule(
        build_generator(model, payload.pt_data_config),
        TrainableProbe(scan.probe, resident.flux, probe_mask(payload)),
        Arms(training=resident, validation=held_out, canvas=canvas),
        payload.pt_training_config,
        scale_trainable=model.intensity_scale_trainable,
    )


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
    if payload.tf_training_config.model.model_type == "supervised":
        problem = Problem(
            path="model_type", expected="'pinn'", found="'supervised'", fix="this backend learns from patterns"
        )
        raise ConfigError("training", [problem])


def _draw(payload: TrainingPayload, scan: Scan, n_groups: int) -> Groups:
    return group_scan(scan, grouping_of(payload, n_groups))


def grouping_of(payload: TrainingPayload, n_groups: int) -> Grouping:
    """Collect the settings of the group draw."""
    config, data = payload.pt_training_config, payload.pt_data_config
    return Grouping(
        n_groups=n_groups,
        gridsize=payload.tf_training_config.model.gridsize,
        neighbor_count=data.K,
        seed=config.seed if data.subsample_seed is None else data.subsample_seed,
        n_subsample=config.n_subsample,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
        sequential_sampling=config.sequential_sampling,
    )


def _loader(groups: NDArray[np.int32], payload: TrainingPayload, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of group indices; the patterns themselves are on the device already."""
    execution = payload.execution_config
    return DataLoader(
        TensorDataset(torch.tensor(groups, dtype=torch.int64)),
        batch_size=payload.pt_training_config.batch_size,
        shuffle=shuffle,
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor,
        generator=torch.Generator().manual_seed(payload.pt_training_config.seed),
    )


def _build_trainer(payload: TrainingPayload, history: LossHistory, *, validates: bool) -> Trainer:
    execution, config = payload.execution_config, payload.pt_training_config
    max_time_s = None if execution.max_time is None else parse_duration_s(execution.max_time)
    callbacks: list[Callback] = [Schedule(config, max_time_s=max_time_s), history]
    if execution.enable_progress_bar:
        callbacks.append(ProgressBar())
    if config.log_grad_norm:
        callbacks.append(GradientNorm(config.grad_norm_log_freq))
    monitor = f"{config.torch_loss_mode}_val_loss" if validates else f"{config.torch_loss_mode}_train_loss"
    if execution.enable_checkpointing:
        callbacks.append(
            ModelCheckpoint(
                dirpath=config.output_dir / CHECKPOINT_FOLDER,
                filename=f"{{epoch}}-{{{monitor}:.4f}}",
                monitor=monitor,
                mode=execution.checkpoint_mode,
                save_top_k=execution.checkpoint_save_top_k,
                save_last=True,
            )
        )
    if validates:
        callbacks.append(
            EarlyStopping(monitor=monitor, mode=execution.checkpoint_mode, patience=execution.early_stop_patience)
        )
    return Trainer(
        max_epochs=config.epochs,
        callbacks=callbacks,
        logger=run_logger(execution, Path(config.output_dir), config),
        **trainer_arguments(execution),
    )


def _keep_better(trainer: Trainer, module: PtychoModule) -> None:
    """Take the best checkpoint's weights if the held-out loss says that they are better than the last ones."""
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, ModelCheckpoint) or not checkpoint.best_model_path or not trainer.val_dataloaders:
        return
    last = trainer.callback_metrics.get(str(checkpoint.monitor))
    best = checkpoint.best_model_score
    if last is None or best is None:
        return
    better = best < last if checkpoint.mode == "min" else best > last
    if bool(better):
        state = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)


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
            EpochLosses(epoch=epoch, train=values[f"{mode}_train_loss"], validation=values.get(f"{mode}_val_loss"))
            for epoch, values in history.rows
        ),
        code_version=VERSION,
    )


@contextmanager
def _deterministic_algorithms_restored() -> Iterator[None]:
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's banners out of a run; its warnings still show."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
