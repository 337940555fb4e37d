"""The backend as others see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ptycho_adapters.common.backend import own_model
from ptycho_adapters.torch_backend.archive import load_archive, save_archive
from ptycho_adapters.torch_backend.execution import check_hardware, check_logger
from ptycho_adapters.torch_backend.generalist import generalist_for
from ptycho_adapters.torch_backend.inference.reconstruct import reconstruct
from ptycho_adapters.torch_backend.trained_model import TrainedModel
from ptycho_adapters.torch_backend.training.trainer import train_on

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.common.model import ModelRecord
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.config.payload import InferencePayload, TrainingPayload
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction


class Torch:
    """Trains and reconstructs with torch; see `ptycho_adapters.common.backend.Framework`."""

    name: Literal["pytorch"] = "pytorch"

    def check(self, execution: PyTorchExecutionConfig) -> None:
        """Refuse what the machine cannot do, and a logger that is not installed."""
        check_hardware(execution)
        check_logger(execution)

    def train_on(self, payload: TrainingPayload, data: TrainingSet) -> TrainedModel:
        """Train on groups that have been drawn."""
        return train_on(payload, data)

    def reconstruct(self, model: ModelRecord, scan: Scan, payload: InferencePayload | None = None) -> Reconstruction:
        """Reconstruct a scan with a model of this backend."""
        own = own_model(model, TrainedModel, self.name)
        if payload is None:
            return reconstruct(own, scan)
        return reconstruct(
            own,
            scan,
            execution_config=payload.execution_config,
            inference_config=payload.pt_inference_config,
            data_config=payload.pt_data_config,
        )

    def generalist_for(self, scan: Scan) -> TrainedModel:
        """Give the shipped network for a scan."""
        return generalist_for(scan)

    def load_archive(self, path: Path) -> TrainedModel:
        """Read a model."""
        return load_archive(path)

    def save_archive(self, model: ModelRecord, path: Path) -> Path:
        """Write a model of this backend."""
        return save_archive(own_model(model, TrainedModel, self.name), path)
