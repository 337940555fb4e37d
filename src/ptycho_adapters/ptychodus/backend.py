"""Which of the installed backends runs, and its doors."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction


class Backend(StrEnum):
    """A backend, as the setting of that name calls it."""

    TENSORFLOW = "tensorflow"
    PYTORCH = "pytorch"


class BackendModule(Protocol):
    """What a backend offers. A model is its own kind of value, which only its own functions take."""

    def train(self, payload: TrainingPayload, scan: Scan, *, validation: Scan | None = None) -> object:
        """Train on a scan."""

    def reconstruct(
        self,
        model: object,
        scan: Scan,
        *,
        execution_config: PyTorchExecutionConfig | None = None,
        inference_config: TorchInferenceConfig | None = None,
    ) -> Reconstruction:
        """Reconstruct a scan."""

    def save_archive(self, model: object, path: Path) -> Path:
        """Write a model."""

    def load_archive(self, path: Path) -> object:
        """Read a model."""

    def generalist_for(self, scan: Scan) -> object:
        """Give the weights in the package."""


_HOMES = {Backend.TENSORFLOW: "ptycho_adapters.tensorflow_backend", Backend.PYTORCH: "ptycho_adapters.torch_backend"}


def tensorflow_or_torch() -> Backend:
    """Choose for a caller who expects TensorFlow: it, where it and its backend here are installed, else PyTorch."""
    wanted = ("tensorflow", _HOMES[Backend.TENSORFLOW])
    return Backend.TENSORFLOW if all(find_spec(name) is not None for name in wanted) else Backend.PYTORCH


def module_of(backend: Backend) -> BackendModule:
    """Load a backend.

    Raises:
        DependencyError: its framework is not installed.
    """
    return cast("BackendModule", import_module(_HOMES[backend]))
