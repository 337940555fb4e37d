"""The flag that says where the time of a run went."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.crew import crew_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Protocol

    class _Request(Protocol):
        """What is asked of a run."""

        @property
        def profile(self) -> bool: ...
        def said(self, key: str) -> object: ...
        def required_path(self, key: str) -> Path: ...


def add_profile_option(parser: argparse._ActionsContainer) -> None:
    """Give a parser the flag."""
    parser.add_argument(
        "--profile",
        action="store_true",
        help="write where the time went, as profile.json and profile.png in the output folder; the run takes up "
        "to twice as long (backend pytorch)",
    )


@contextmanager
def profile_of(request: _Request) -> Iterator[None]:
    """Watch a run if that was asked for, and write what was seen once it has ended well.

    Of several processes that share a run the first one is watched.

    Args:
        request: of the run.

    Raises:
        UsageError: the run's backend cannot be watched.
        OSError: from the file system.
    """
    if not request.profile or not crew_of(str(request.said("devices") or 1)).leads:
        yield
        return
    if request.said("backend") == "tensorflow":
        raise UsageError("--profile: expected backend pytorch, which it watches, found tensorflow")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it reports each piece of a trace on stderr
    from ptycho_adapters.plotting.profile import write_profile_json, write_profile_png  # noqa: PLC0415 - matplotlib
    from ptycho_adapters.torch_backend.profiling import watched  # noqa: PLC0415 - torch

    with watched() as watch:
        yield
    folder, seen = request.required_path("output_dir"), watch.profile()
    record, picture = folder / "profile.json", folder / "profile.png"
    write_profile_json(seen, record)
    write_profile_png(seen, picture)
    console.note(f"where the time went: {record}, {picture}")
