"""What to say where the packages of the torch backend are not installed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTALL: Mapping[str, str] = MappingProxyType(
    {
        "torch": "pip install 'torch>=2.6'",
        "lightning": "pip install 'lightning>=2.4'",
        "safetensors": "pip install 'safetensors>=0.5'",
    }
)
"""How to install each package that the backend imports."""


def needs(package: str) -> DependencyError:
    """Return the error about a package that is not installed."""
    return DependencyError(f"PyTorch backend selected, and the package {package} is not installed: {INSTALL[package]}")


def missing(error: ModuleNotFoundError) -> Exception:
    """Return the error to raise for a module that the backend could not import: ours if a package is missing."""
    package = (error.name or "").partition(".")[0]
    return needs(package) if package in INSTALL else error
