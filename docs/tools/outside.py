"""What a page says on its way into the site.

Links out of the folder of pages lead to the page that shows such a file there; in the repository they work as they
stand. A line `NAME?` of a table of contents is for a page that may not be there: it counts where there is one.
"""

from __future__ import annotations

import posixpath
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sphinx.application import Sphinx

SHOWN: Mapping[str, str] = MappingProxyType(
    {
        "shims/ptychodus/README.md": "project/ptychodus_shim.md",
        "CONTRIBUTING.md": "project/contributing.md",
        "CHANGELOG.md": "project/changelog.md",
    }
)
"""Files of the repository by their path, and the pages that include them."""

_PERHAPS = re.compile(r"^(?P<name>[\w/]+)\?\n", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def lead_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change the text of a page, as Sphinx hands it over before it is read."""
    source[0] = led(there(source[0], app.env.found_docs), posixpath.dirname(docname))


def there(text: str, pages: Collection[str]) -> str:
    """Return a page without lines for pages that are not there.

    Args:
        text: Markdown.
        pages: names of those that are.
    """
    return _PERHAPS.sub(lambda match: f"{match['name']}\n" if match["name"] in pages else "", text)


def led(text: str, folder: str) -> str:
    """Return a page with its links out of the folder changed.

    Args:
        text: Markdown.
        folder: of the page, below that of all pages.
    """

    def link(match: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join("docs", folder, match["target"]))
        if place not in SHOWN:
            return match[0]
        return f"]({posixpath.relpath(SHOWN[place], folder or '.')}{match['anchor'] or ''})"

    return _LINK.sub(link, text)
