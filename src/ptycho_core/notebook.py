"""How values show themselves in a notebook: a small table here, a picture through whoever can draw one.

The core draws nothing. A package that can registers a function under the entry point group `ptycho_core.plot` (as
drawing libraries do for data frames), and `plot()` finds it there at the moment it is called.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Protocol

from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENTRY_POINTS = "ptycho_core.plot"


class Picture(Protocol):
    """What a drawing function returns: a figure that a notebook shows and that can be saved."""

    def savefig(self, fname: str, /) -> object:
        """Write the picture to a file; the suffix says in which format."""
        ...


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """Return a two-column table as HTML, in the colours of the page that it stands in.

    Args:
        title: above the table.
        rows: values by name; numbers are shown with four digits.
    """
    cells = "".join(
        f'<tr><th style="text-align:left;font-weight:normal">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(_shown(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{cells}</tbody></table>"


def plot_with_entry_point(value: object) -> Picture:
    """Draw a value with the installed package that can.

    Args:
        value: a scan, a reconstruction or a model.

    Raises:
        DependencyError: no package that draws is installed.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - only who draws needs it

    found = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    if not found:
        message = f"no package offers {ENTRY_POINTS!r} to draw with: run pip install . in a checkout of ptycho-core"
        raise DependencyError(message)
    draw: Callable[[object], Picture] = found[0].load()
    return draw(value)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return " × ".join(map(_shown, value))
    return "not given" if value is None else str(value)
