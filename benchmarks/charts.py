"""Pictures of the benchmarks, beside their JSON files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
from harness import RESULTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Points = tuple["Sequence[float]", "Sequence[float]"]


@attrs.frozen(kw_only=True, eq=False)
class Panel:
    """One set of axes with lines.

    Attributes:
        title: above the axes.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        lines: x and y values by name; a single point is drawn as a star.
        x_scale: of the horizontal axis.
        y_scale: of the vertical axis.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Points]
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"


def draw(name: str, panels: Sequence[Panel], images: Mapping[str, NDArray[np.floating]] | None = None) -> Path:
    """Write `results/NAME.png`: panels in rows of three, then pictures in grey."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - matplotlib takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    pictures = images or {}
    columns = min(3, max(len(panels), len(pictures)))
    panel_rows, picture_rows = -(-len(panels) // columns), -(-len(pictures) // columns)
    rows = panel_rows + picture_rows
    figure = Figure(figsize=(5.2 * columns, 3.8 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    cells = [*axes[:panel_rows].flat], [*axes[panel_rows:].flat]
    for cell in (*cells[0][len(panels) :], *cells[1]):
        cell.axis("off")
    for cell, panel in zip(cells[0], panels, strict=False):
        for label, (x, y) in panel.lines.items():
            cell.plot(x, y, "*" if len(x) == 1 else "o-", markersize=14 if len(x) == 1 else 4, label=label)
        cell.set(title=panel.title, xlabel=panel.x, ylabel=panel.y, xscale=panel.x_scale, yscale=panel.y_scale)
        cell.grid(alpha=0.3)
        cell.legend(fontsize=8)
    for cell, (title, image) in zip(cells[1], pictures.items(), strict=False):
        low, high = np.percentile(image, [1, 99])
        cell.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="none")
        cell.set_title(title, fontsize=9)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.png"
    figure.savefig(target)
    print(f"drawn to {target}", file=sys.stderr)
    return target
