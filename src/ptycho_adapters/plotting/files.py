"""Curves for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.plotting.curves import draw_losses

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - matplotlib takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    draw_losses(figure.subplots(), losses, unit=unit)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")
