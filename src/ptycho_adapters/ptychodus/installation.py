"""Whether the top-level names `ptycho` and `ptycho_torch` are ours alone."""

from __future__ import annotations

from importlib import metadata
from typing import Final

from ptycho_core.errors import DependencyError

SHIM: Final = "ptycho-core-ptychodus"
_LEGACY: Final = ("ptychopinn", "ptycho", "ptycho-torch")
_NAMES: Final = ("ptycho", "ptycho_torch")


def refuse_other_owners() -> None:
    """Refuse to stand in for the legacy project where it is installed too: its files and ours would mix.

    Raises:
        DependencyError: another distribution owns `ptycho` or `ptycho_torch`, or is the legacy project by its name.
    """
    others = sorted(_owners() | {name for name in _LEGACY if _is_installed(name)})
    if others:
        message = (
            f"{SHIM} stands in for the modules ptycho and ptycho_torch, and so does {' and '.join(others)}, which is "
            f"installed too: their files mix. Keep one: pip uninstall {' '.join(others)}, then pip install "
            f"--force-reinstall --no-deps {SHIM}; or pip uninstall {SHIM}"
        )
        raise DependencyError(message)


def _owners() -> set[str]:
    """Name the other distributions that list one of the two modules."""
    owners = metadata.packages_distributions()
    return {owner for name in _NAMES for owner in owners.get(name, ()) if owner != SHIM}


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
