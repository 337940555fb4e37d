"""The packages of the extra `live`, and what to say where one is not installed."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOR: Mapping[str, str] = MappingProxyType(
    {
        "aiohttp": "the page of a live run",
        "hdf5plugin": "compressed frames from a detector",
        "zmq": "frames from a detector's socket",
    }
)


def module(name: str) -> None:
    """See to it that a package of the extra is there.

    Args:
        name: of the module.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        message = f"{name} is not installed, which {_FOR[name]} needs: pip install 'ptycho-core[live]'"
        raise DependencyError(message) from None
