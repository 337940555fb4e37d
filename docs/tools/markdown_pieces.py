"""Small pieces of Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|$~])")


def plain(text: str) -> str:
    """Return a text in which no sign means anything but itself, but for spans of code, which stay."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(part if index % 2 else _SIGNS.sub(r"\\\1", part) for index, part in enumerate(parts))


def code(text: str) -> str:
    """Return a span of code that may stand in a table."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
