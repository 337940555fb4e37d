"""What a run says, said where the client's user reads it: in the loggers of the client's own libraries."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TENSORFLOW_LIBRARY: Final = "ptychopinn"
TORCH_LIBRARY: Final = "ptychopinn-torch"
_OURS: Final = ("ptycho_adapters", "ptycho_core")


class _Forward(logging.Handler):
    """Passes records on to another logger, under its name."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Say it there."""
        if self._target.isEnabledFor(record.levelno):
            self._target.log(record.levelno, "%s", record.getMessage())


@contextmanager
def said_to(name: str) -> Iterator[logging.Logger]:
    """Let what this library logs and warns of appear in a logger of the client; no level is changed.

    Args:
        name: of that logger.

    Yields:
        The logger.
    """
    target = logging.getLogger(name)
    forward = _Forward(target)
    ours = [logging.getLogger(each) for each in _OURS]
    before = [each.propagate for each in ours]
    for each in ours:
        each.addHandler(forward)
        each.propagate = False
    try:
        with warnings.catch_warnings(record=False):
            warnings.showwarning = lambda message, *_rest, **_more: target.warning("%s", message)
            yield target
    finally:
        for each, propagates in zip(ours, before, strict=True):
            each.removeHandler(forward)
            each.propagate = propagates
