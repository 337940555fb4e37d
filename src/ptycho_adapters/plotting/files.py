"""Curves for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.plotting.curves import draw_losses
from ptycho_adapters.plotting.figures import blank, write_png

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.plotting.curves import LossCurves


def write_loss_png(losses: LossCurves, path: Path, *, unit: str) -> None:
    """Write loss curves; logarithmic where every loss is positive.

    Args:
        losses: the curves.
        path: PNG file; written atomically.
        unit: of the losses.
    """
    figure = blank((6.4, 4.0), dpi=150)
    draw_losses(figure.subplots(), losses, unit=unit)
    with atomic_path(path) as partial:
        write_png(figure, partial)
