"""Figures as SVG inside a page, in the colours of the page.

The figure is drawn in marker colours that nothing else uses, and these become the page's own variables. So a figure
follows the page's light or dark scheme, and images within it, whose colours mean numbers, stay as they are.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from ptycho_adapters.plotting.figures import blank, svg_of
from ptycho_adapters.plotting.panels import HATCH_COLOUR, UNCOVERED_COLOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matplotlib.figure import Figure

_INK, _GRID = "#010203", "#030201"
_SERIES = ("#010204", "#010205", "#010206", "#010207")
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        _INK: "var(--ink)",
        _GRID: "var(--grid)",
        UNCOVERED_COLOUR: "var(--empty)",
        HATCH_COLOUR: "var(--hatch)",
        **{marker: f"var(--series-{k})" for k, marker in enumerate(_SERIES, start=1)},
    }
)
"""The page's variable for each marker colour."""

_DPI = 200
_INKED = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "axes.titlecolor",
    "xtick.color",
    "ytick.color",
    "xtick.labelcolor",
    "ytick.labelcolor",
    "legend.labelcolor",
)
_IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)')
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*?sans-serif")
_PROLOGUE = re.compile(r"\A.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


def inline_svg(draw: Callable[[Figure], None], *, size_in: tuple[float, float], name: str, label: str) -> Markup:
    """Draw a figure and return it as an SVG element.

    Args:
        draw: puts everything into an empty figure.
        size_in: width and height of its coordinates; the page scales it.
        name: unique on the page, of letters, digits and hyphens.
        label: what the figure shows, for those who cannot see it.
    """
    with _page_style(name):
        figure = blank(size_in, dpi=_DPI)
        draw(figure)
        text = svg_of(figure)
    return _for_page(text, name, label)


@contextmanager
def _page_style(name: str) -> Iterator[None]:
    import matplotlib as mpl  # noqa: PLC0415 - matplotlib takes half a second
    from cycler import cycler  # noqa: PLC0415

    style: dict[str, object] = dict.fromkeys(_INKED, _INK) | {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "legend.facecolor": "none",
        "legend.edgecolor": _GRID,
        "legend.framealpha": 1.0,
        "grid.color": _INK,
        "axes.prop_cycle": cycler(color=_SERIES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9.5,
        # Text stays text: it can be searched, read aloud and is drawn in the page's font.
        "svg.fonttype": "none",
        # Without it, identifiers inside the figure are drawn at random.
        "svg.hashsalt": name,
    }
    with mpl.rc_context(style):  # type: ignore[arg-type]  # keys are a closed list in the stubs
        yield


def _for_page(text: str, name: str, label: str) -> Markup:
    text = _METADATA.sub("", _PROLOGUE.sub("", text, count=1), count=1)
    head, bracket, body = text.partition(">")
    head = re.sub(r'\s(?:width|height)="[^"]*"', "", head)
    text = head + f' class="figure" role="img" aria-label="{escape(label)}"' + bracket + body
    text = _IDENTIFIER.sub(rf"\g<1>{name}-", text)
    text = _FONT.sub("system-ui, sans-serif", text)
    for marker, variable in VARIABLES.items():
        text = text.replace(marker, variable)
    return Markup(text)  # noqa: S704 - matplotlib escapes the texts that it draws
