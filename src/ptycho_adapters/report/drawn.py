"""Panels as pictures of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.plotting.panels import Panel, crop, draw
from ptycho_adapters.report.content import Picture
from ptycho_adapters.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

_WIDTH_IN = 4.6
_IMAGE_SHARE = 0.72  # of a figure's width, beside the tick labels and the colour bar
CURVE_IN = (_WIDTH_IN, 3.3)
"""Width and height of a figure of curves."""


def image(name: str, panel: Panel, caption: str) -> Picture:
    """Draw a panel, cut to what was measured.

    Args:
        name: unique on the page.
        panel: to draw.
        caption: below it.
    """
    small = attrs.evolve(crop(panel), interpolation="auto")

    def paint(figure: Figure) -> None:
        draw(figure, figure.subplots(), small)

    return painted(name, paint, small.values.shape, panel.title, caption)


def painted(name: str, paint: Callable[[Figure], None], shape: tuple[float, ...], title: str, caption: str) -> Picture:
    """Draw something that has the proportions of an image.

    Args:
        name: unique on the page.
        paint: draws it into an empty figure.
        shape: height and width.
        title: what it shows.
        caption: below it.
    """
    ratio = min(max(shape[0] / shape[1], 0.35), 2.0)
    size = (_WIDTH_IN, _WIDTH_IN * _IMAGE_SHARE * ratio + 0.8)
    return Picture(title=title, caption=caption, svg=inline_svg(paint, size_in=size, name=name, label=title))
