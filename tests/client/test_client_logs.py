"""What a run says reaches the client's log panel, and its logging is left as it was."""

from __future__ import annotations

import logging
import warnings

import pytest

from ptycho_adapters.ptychodus.client_logs import said_to


@pytest.mark.filterwarnings("default")
def test_our_words_and_warnings_reach_the_clients_logger_once(caplog: pytest.LogCaptureFixture) -> None:
    """Under the logger that its panel listens to, and nowhere else."""
    with caplog.at_level(logging.INFO), said_to("ptychopinn-torch"):
        logging.getLogger("ptycho_adapters.somewhere").info("a focus was %s", "found")
        warnings.warn("an old archive", UserWarning, stacklevel=1)

    assert [(each.name, each.getMessage()) for each in caplog.records] == [
        ("ptychopinn-torch", "a focus was found"),
        ("ptychopinn-torch", "an old archive"),
    ]


def test_the_clients_level_counts(caplog: pytest.LogCaptureFixture) -> None:
    """What the client does not want to hear is not said."""
    with caplog.at_level(logging.WARNING, logger="ptychopinn"), said_to("ptychopinn"):
        logging.getLogger("ptycho_core").info("a detail")

    assert caplog.records == []


def test_logging_is_left_as_it_was() -> None:
    """Levels, handlers and the way up of every logger, after an error too."""

    def state() -> list[tuple[object, ...]]:
        names = (None, "ptychopinn", "ptycho_adapters", "ptycho_core")
        loggers = [logging.getLogger(name) for name in names]
        return [(each.level, tuple(each.handlers), each.propagate) for each in loggers]

    before, shown = state(), warnings.showwarning

    with pytest.raises(ValueError, match="spoilt"), said_to("ptychopinn"):
        raise ValueError("spoilt")

    assert state() == before
    assert warnings.showwarning is shown
