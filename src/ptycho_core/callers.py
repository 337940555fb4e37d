"""Warnings that point at the line outside of this library that gave rise to them."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# cattrs calls us back while it reads a record.
_PACKAGES = frozenset({"ptycho_core", "ptycho_adapters", "cattrs"})
_GENERATED = ("<attrs generated", "<cattrs generated")


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn in the name of the nearest caller outside of this library, however deep the call has gone.

    Python's default filters show a deprecation only where it is attributed to the user's own script.

    Args:
        message: what to say.
        category: kind of warning.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in _PACKAGES or frame.f_code.co_filename.startswith(_GENERATED)
