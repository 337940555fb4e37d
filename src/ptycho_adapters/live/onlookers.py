"""Everybody who looks on at a run: the newest status, the newest picture in a file, and the page if there is one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.live.drawing import Drawing
from ptycho_adapters.live.page import DEFAULT_PORT, LOOPBACK, LivePage
from ptycho_adapters.live.status import Board, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ptycho_adapters.live.engine import Picture
    from ptycho_adapters.live.status import Status
    from ptycho_core.measurement.stream import FrameBatch


@attrs.frozen(kw_only=True)
class PageAddress:
    """Where a page is served.

    Attributes:
        host: name or address of this machine.
        port: 0 for any that is free.
    """

    host: str = LOOPBACK
    port: int = DEFAULT_PORT


@attrs.frozen(kw_only=True, eq=False)
class Onlookers:
    """Who is told about a run.

    Attributes:
        board: the newest status.
        drawing: draws pictures while its block lasts.
        url: of the page, token included; None where there is none.
    """

    board: Board
    drawing: Drawing
    url: str | None = None

    def until_the_end(self, frames: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        """Give the batches of a source, and tell when there are no more."""
        yield from frames
        self.board.reached(Stage.RECONSTRUCTING)

    def see(self, picture: Picture) -> None:
        """Show a picture.

        Raises:
            OSError: an earlier one could not be written.
        """
        self.board.pictured(picture)
        self.drawing.show(picture.reconstruction)


@contextmanager
def looking_on(
    first: Status, phase_png: Path, *, page: PageAddress | None, stop: Callable[[], None]
) -> Iterator[Onlookers]:
    """Let everybody look on while the block lasts; the page says at its end how it ended.

    Args:
        first: status to begin with.
        phase_png: file of the newest phase.
        page: where to serve one; None for no page.
        stop: ends the stream.

    Raises:
        DependencyError: the server library of the page is not installed.
        OSError: it cannot be served there.
    """
    board, drawing = Board(first), Drawing(phase_png, with_coverage=page is not None)
    if page is None:
        yield Onlookers(board=board, drawing=drawing)
        return
    with LivePage(board, drawing, stop=stop, host=page.host, port=page.port) as served:
        yield Onlookers(board=board, drawing=drawing, url=served.url)
