"""Curves for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes


def write_loss_png(epochs: Sequence[int], curves: dict[str, Sequence[float]], path: Path, *, unit: str) -> None:
    """Write loss curves over the epochs; logarithmic where every loss is positive.

    Args:
        epochs: (E,) counted from 0.
        curves: (E,) losses by name; not a number where there is none.
        path: PNG file; written atomically.
        unit: of the losses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - matplotlib takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    draw_losses(figure.subplots(), epochs, curves, unit=unit)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")


def draw_losses(axes: Axes, epochs: Sequence[int], curves: dict[str, Sequence[float]], *, unit: str) -> None:
    """Draw loss curves into axes."""
    for name, losses in curves.items():
        axes.plot([epoch + 1 for epoch in epochs], losses, label=name, marker="." if len(epochs) < 40 else "")
    shown = [loss for losses in curves.values() for loss in losses if loss == loss]  # noqa: PLR0124 - NaN differs
    if shown and min(shown) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
