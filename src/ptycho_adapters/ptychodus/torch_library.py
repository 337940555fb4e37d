"""What the client's PtychoPINN-Torch library imports from `ptycho_torch`, under the names that it expects.

A checkpoint is one of our model archives under the client's suffix, `run_*/checkpoints/best.ckpt`. Nothing here loads
torch before a model is read or trained.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.ptychodus.backend import Backend
from ptycho_adapters.ptychodus.client_logs import TORCH_LIBRARY, said_to
from ptycho_adapters.ptychodus.mapping import on_canvas, scan_of_arrays, smallest_canvas, with_room
from ptycho_adapters.ptychodus.models import ClientModel, stored_payload
from ptycho_adapters.ptychodus.settings import torch_settings
from ptycho_adapters.ptychodus.torch_configs import (
    DataConfig,
    DatagenConfig,
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
)
from ptycho_adapters.ptychodus.work import load_model, reconstruct_scan, save_model, train_model, training_payload
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.measurement.scan import Scan

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    import numpy.typing as npt
    from lightning import Callback

    from ptycho_core.config.payload import TrainingPayload

_CHECKPOINT = "best.ckpt"
Configs = tuple[DataConfig, ModelConfig, TrainingConfig, InferenceConfig]


class DataloaderFormats(StrEnum):
    """How training data are handed on; the client knows one way."""

    LIGHTNING_ONLY_MODULE = "lightning_only_module"


@attrs.define(kw_only=True)
class PtychoPINN_Lightning:  # noqa: N801 - the client's name
    """The network of a model: a loaded one, or one yet to be trained.

    Attributes:
        model: what was loaded; None before a training.
        loss_name: the metric that the client plots for the training.
        val_loss_name: the one for what is held out.
    """

    model: ClientModel | None = None
    loss_name: str = ""
    val_loss_name: str = ""

    @classmethod
    def load_from_checkpoint(
        cls,
        path: Path,
        *,
        model_config: ModelConfig,
        data_config: DataConfig,
        training_config: TrainingConfig,
        inference_config: InferenceConfig,
    ) -> PtychoPINN_Lightning:
        """Load a model; the configurations are those that it holds itself.

        Raises:
            FileNotFoundError: there is no such file.
            ArchiveError: it is no model.
        """
        del model_config, data_config, training_config, inference_config
        with said_to(TORCH_LIBRARY) as log:
            return cls(model=load_model(Path(path), log))


@attrs.define(kw_only=True)
class PtychoModel:
    """A network with its configurations."""

    model_config: ModelConfig
    data_config: DataConfig
    training_config: TrainingConfig
    inference_config: InferenceConfig
    model: PtychoPINN_Lightning = attrs.field(factory=PtychoPINN_Lightning)

    @classmethod
    def _new_model(cls, *, model: type[PtychoPINN_Lightning], config_manager: ConfigManager) -> PtychoModel:
        """Make one to be trained, with the names of its losses."""
        configs = config_manager.configs
        main = _main_term(configs)
        return cls(
            data_config=configs[0],
            model_config=configs[1],
            training_config=configs[2],
            inference_config=configs[3],
            model=model(loss_name=f"{main}_train_loss", val_loss_name=f"{main}_val_loss"),
        )

    @staticmethod
    def _extract_configs_from_checkpoint(path: str) -> Configs:
        """Give the configurations of a stored model in the client's words.

        Raises:
            FileNotFoundError: there is no such file.
            ArchiveError: it is no model.
        """
        payload = stored_payload(Path(path))
        return _client_configs(payload)


@attrs.define(kw_only=True)
class ConfigManager:
    """The client's configurations together."""

    data_config: DataConfig
    model_config: ModelConfig
    training_config: TrainingConfig
    inference_config: InferenceConfig
    datagen_config: DatagenConfig = attrs.field(factory=DatagenConfig)

    @property
    def configs(self) -> Configs:
        """Those that say something."""
        return self.data_config, self.model_config, self.training_config, self.inference_config

    @classmethod
    def from_loaded_model(cls, model: PtychoModel) -> ConfigManager:
        """Take those of a loaded model."""
        return cls(
            data_config=model.data_config,
            model_config=model.model_config,
            training_config=model.training_config,
            inference_config=model.inference_config,
        )

    def validate_arch_compatibility(self, model: PtychoModel) -> None:
        """Pass: a model that was loaded fits its own configurations, or loading it had failed."""


def _run_folder(parent: Path) -> Path:
    """Name a folder that is not there yet after the time."""
    name = f"run_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    taken, number = parent / name, 1
    while taken.exists():
        number += 1
        taken = parent / f"{name}_{number}"
    return taken


@attrs.define(kw_only=True)
class PtychoDataLoader:
    """The scans of a training or of a reconstruction.

    Args:
        data_dir: folder whose `.npz` files are trained on together.
        config_manager: the client's configurations.
        data_format: the one that there is.
        output_dir: folder that gets a folder for the run.
    """

    data_dir: Path | None = None
    config_manager: ConfigManager
    data_format: DataloaderFormats = DataloaderFormats.LIGHTNING_ONLY_MODULE
    output_dir: Path = attrs.field(default=Path(), converter=_run_folder)
    scan: Scan | None = None

    @classmethod
    def from_np(
        cls,
        *,
        diff_patterns: npt.NDArray[np.number],
        probe: npt.NDArray[np.complexfloating],
        positions: npt.NDArray[np.floating],
        config_manager: ConfigManager,
    ) -> PtychoDataLoader:
        """Take what the client has in memory.

        Args:
            diff_patterns: (n, N, N) photon counts.
            probe: (modes, N, N) or (N, N), with the flux in it.
            positions: (n, 2), (y, x) in pixels of the client's object.
            config_manager: of the loaded model.

        Raises:
            ScanError: it is no scan; both shapes are named where the patterns are not square.
        """
        scan = scan_of_arrays(diff_patterns, np.asarray(positions, dtype=np.float64), probe)
        return cls(config_manager=config_manager, scan=scan)

    def files(self) -> list[Path]:
        """List the training data.

        Raises:
            FileNotFoundError: the folder has none.
        """
        found = [] if self.data_dir is None else sorted(Path(self.data_dir).glob("*.npz"))
        if not found:
            message = f"no training data: {self.data_dir} holds no .npz file; export training data into it first"
            raise FileNotFoundError(message)
        return found


@attrs.define(kw_only=True)
class TrainerHooks:
    """Where the client hangs its callbacks."""

    callbacks: list["Callback"] = attrs.field(factory=list)


@attrs.define(kw_only=True)
class Trainer:
    """A training that is ready to begin."""

    model: PtychoModel
    dataloader: PtychoDataLoader
    _trainer: TrainerHooks = attrs.field(factory=TrainerHooks)

    @classmethod
    def _from_lightning(
        cls, *, model: PtychoModel, dataloader: PtychoDataLoader, orchestration: str, config_manager: ConfigManager
    ) -> Trainer:
        """Put the parts together."""
        del orchestration, config_manager
        return cls(model=model, dataloader=dataloader)

    def train(self, *, orchestration: str = "lightning", experiment_name: str = "") -> None:
        """Train on every `.npz` file of the folder and write the model into that of the run, atomically.

        Raises:
            FileNotFoundError: there are no training data.
            PtychoError: settings or data cannot be used.
            OSError: from the file system.
        """
        del orchestration, experiment_name
        from ptycho_adapters.files import read_scan  # noqa: PLC0415 - a reconstruction reads none

        files, configs = self.dataloader.files(), self.dataloader.config_manager.configs
        with said_to(TORCH_LIBRARY) as log:
            settings = torch_settings(*configs)
            scans = [with_room(read_scan(path)) for path in files]
            _check_size(configs[0].N, scans, files)
            _say_device(configs[2].device, log)
            payload = training_payload(files[0], scans[0], settings, Backend.PYTORCH)
            self.model.model.model = train_model(
                payload, scans, validation=None, backend=Backend.PYTORCH, log=log, callbacks=self._trainer.callbacks
            )
            target = self.dataloader.output_dir / "checkpoints" / _CHECKPOINT
            log.info("saved the model to %s", save_model(self.model.model.model, target))


@attrs.frozen(kw_only=True)
class InferenceEngine:
    """A reconstruction that is ready to begin."""

    config_manager: ConfigManager
    ptycho_model: PtychoModel

    def predict_and_stitch(self, loader: PtychoDataLoader) -> npt.NDArray[np.complex64]:
        """Reconstruct every pattern.

        The client says nothing of its object here, so the answer has the shape that follows from the positions; see
        `smallest_canvas` for when that is not the client's.

        Raises:
            PtychoError: model and scan do not fit.
        """
        model, scan = self.ptycho_model.model.model, loader.scan
        if model is None or scan is None:
            message = "expected a loaded model and a scan from PtychoDataLoader.from_np"
            raise RuntimeError(message)
        with said_to(TORCH_LIBRARY) as log:
            result = reconstruct_scan(model, scan, log)
        return on_canvas(result, smallest_canvas(scan.positions_px))


def find_best_checkpoint(run: Path) -> Path | None:
    """Find the model in the folder of a run; None where there is none."""
    path = Path(run) / "checkpoints" / _CHECKPOINT
    return path if path.is_file() else None


def _main_term(configs: Configs) -> str:
    if configs[1].mode == "Supervised":
        return "supervised"
    return "mae" if configs[1].loss_function == "MAE" or not configs[2].nll else "poisson"


def _client_configs(payload: TrainingPayload | None) -> Configs:
    if payload is None:
        return DataConfig(), ModelConfig(), TrainingConfig(), InferenceConfig()
    data, model, side = payload.pt_data_config, payload.pt_model_config, payload.pt_data_config.grid_size
    channels = data.C
    return (
        DataConfig(N=data.N, C=channels, K=data.K, grid_size=side),
        ModelConfig(
            mode=model.mode,
            loss_function=model.loss_function,
            n_filters_scale=model.n_filters_scale,
            C_model=channels,
            C_forward=channels,
        ),
        TrainingConfig(epochs=payload.pt_training_config.epochs, batch_size=payload.pt_training_config.batch_size),
        InferenceConfig(),
    )


def _check_size(size: int, scans: Sequence[Scan], files: Sequence[Path]) -> None:
    problems = [
        Problem(
            path=path.name,
            expected=f"patterns of {size} x {size} px, as model_size says",
            found=" x ".join(map(str, scan.patterns.shape[1:])),
            fix=f"set model_size to {scan.N}",
        )
        for scan, path in zip(scans, files, strict=True)
        if size != scan.N
    ]
    raise_if_any(ScanError, "training data of Ptychodus", problems)


def _say_device(asked: str, log: logging.Logger) -> None:
    import torch  # noqa: PLC0415 - a training loads it in any case

    if asked == "cuda" and not torch.cuda.is_available():
        log.warning("no CUDA device: training on the best device that there is")
