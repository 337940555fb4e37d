"""Figures that belong to no window, and their files, each drawn once.

`Figure.savefig` draws a figure with a layout twice, the first time for the layout alone, which drawing finds anyway.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def blank(size_in: tuple[float, float], dpi: float) -> Figure:
    """Return an empty figure of this width and height, whose parts make room for each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - matplotlib takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=size_in, dpi=dpi, layout="constrained")
    # The layout goes from here in two steps; from further away it ends with labels beyond the edges.
    figure.subplotpars.update(left=0.13, right=0.8, bottom=0.13, top=0.9)
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - see above

    FigureCanvasAgg(figure).print_png(target)  # type: ignore[no-untyped-call]  # matplotlib leaves it without types


def svg_of(figure: Figure) -> str:
    """Return a figure as a document in SVG that does not tell when and by what it was made."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - see above

    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return stream.getvalue()
