"""What a backend is: a third one would be one folder with a class like these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_adapters.common.model import ModelRecord
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.config.payload import InferencePayload, TrainingPayload
    from ptycho_core.config.shared import Backend
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction


Own = TypeVar("Own")


def own_model(model: object, kind: type[Own], name: Backend) -> Own:
    """Give a model as the kind that a backend's own are of.

    Raises:
        TypeError: it is one of another backend.
    """
    if not isinstance(model, kind):
        message = f"expected a model of backend {name}, found a {type(model).__module__}.{type(model).__name__}"
        raise TypeError(message)
    return model


class Framework(Protocol):
    """A framework that trains and reconstructs. Models that it is given have to be its own."""

    @property
    def name(self) -> Backend:
        """As the settings call it."""
        ...

    def check(self, execution: PyTorchExecutionConfig) -> None:
        """Refuse what the machine cannot do, before anything is written.

        Raises:
            DependencyError: the accelerator is asked for and not there, or a logger's package is not installed.
            ConfigError: the machine cannot do what is asked for.
        """
        ...

    def train_on(self, payload: TrainingPayload, data: TrainingSet) -> ModelRecord:
        """Train on groups that have been drawn."""
        ...

    def reconstruct(self, model: ModelRecord, scan: Scan, payload: InferencePayload | None = None) -> Reconstruction:
        """Reconstruct a scan; without a payload under the settings that the backend takes by default."""
        ...

    def generalist_for(self, scan: Scan) -> ModelRecord:
        """Give the shipped network for a scan."""
        ...

    def load_archive(self, path: Path) -> ModelRecord:
        """Read a model."""
        ...

    def save_archive(self, model: ModelRecord, path: Path) -> Path:
        """Write a model; gives the file."""
        ...
