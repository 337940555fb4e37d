"""The backends by name, and models with the backend that trained them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.archive_facts import archive_backend
from ptycho_core.callers import warn_caller
from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.common.backend import Framework
    from ptycho_adapters.common.model import ModelRecord


def framework(name: str) -> Framework:
    """Return a backend.

    Args:
        name: 'pytorch' or 'tensorflow'. The other one is not imported.

    Raises:
        ValueError: there is no backend of that name.
        DependencyError: its packages are not installed; with the command to install them.
    """
    match name:
        case "pytorch":
            from ptycho_adapters.torch_backend.framework import Torch  # noqa: PLC0415 - torch takes seconds

            return Torch()
        case "tensorflow":
            from ptycho_adapters.tensorflow_backend.framework import TensorFlow  # noqa: PLC0415 - as torch

            return TensorFlow()
        case _:
            message = f"backend: expected 'pytorch' or 'tensorflow', found {name!r}"
            raise ValueError(message)


def model_with_backend(archive: Path) -> tuple[Framework, ModelRecord]:
    """Load a model with the backend that trained it; either takes what the other one trained, where it has to.

    Args:
        archive: the file. One of the legacy software is torch's to read.

    Raises:
        ArchiveError: it cannot be read.
        DependencyError: neither backend is installed; with the command to install the model's own.

    Warns:
        UserWarning: the backend that trained it is not installed, and the other one takes it.
    """
    own = archive_backend(archive)
    try:
        backend = framework(own)
    except DependencyError as missing:
        other = "pytorch" if own == "tensorflow" else "tensorflow"
        try:
            backend = framework(other)
        except DependencyError:
            raise missing from None
        warn_caller(f"{archive} was trained with backend {own}, which is not installed: {other} takes it", UserWarning)
    return backend, backend.load_archive(archive)
