"""What to say where the packages of the torch backend are not installed, or do not fit each other."""

from __future__ import annotations

import importlib.metadata
import traceback
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


_UNASKED = "torchvision"


def missing(error: Exception) -> Exception:
    """Return the error to raise for what the backend could not import: ours if a package is missing or does not fit."""
    if _came_from(error, _UNASKED):
        return _misfit(error)
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return needs(package) if package in INSTALL else error


def _came_from(error: Exception, package: str) -> bool:
    """Tell whether an error was raised while a package was imported."""
    return any(
        str(frame.f_globals.get("__name__", "")).partition(".")[0] == package
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _misfit(error: Exception) -> DependencyError:
    """Return the error about a torchvision that was built for another torch; Lightning imports it where it lies."""
    versions = " and ".join(f"{name} {_version(name)}" for name in (_UNASKED, "torch"))
    reason = " ".join(str(error).split())
    return DependencyError(
        f"PyTorch backend selected, and {_UNASKED}, which Lightning imports where it is installed, does not fit torch: "
        f"found {versions} ({type(error).__name__}: {reason}). Nothing but pty-chi needs it: pip uninstall {_UNASKED}; "
        f"or install the one for this torch, from where torch came: pip install --force-reinstall --no-deps {_UNASKED}"
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
