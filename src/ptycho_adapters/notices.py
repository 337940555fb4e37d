"""What a user may want to know and need not act on, said once: to the log, and on a command line's standard error."""

from __future__ import annotations

import logging

NOTICES = __name__
"""Name of the logger."""

_LOG = logging.getLogger(NOTICES)
_SAID: set[tuple[str, ...]] = set()


def notice(text: str, *about: str) -> None:
    """Say something at level INFO, once in this process.

    Args:
        text: what to say.
        about: tells it from everything else that is said.
    """
    if _LOG.isEnabledFor(logging.INFO) and about not in _SAID:
        _SAID.add(about)
        _LOG.info("%s", text)
