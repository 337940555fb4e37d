"""The documentation site: `make docs` builds it. Sphinx reads these names."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "tools"), str(HERE.parent / "src")]

import outside  # noqa: E402 - found through the line above
import reference  # noqa: E402
from ptycho_core.version import VERSION  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# A style of Pygments has everything logged at INFO once it is imported, and the reference runs commands.
logging.getLogger("ptycho_adapters").setLevel(logging.WARNING)

project = "ptycho-core"
author = "ptycho-core developers"
project_copyright = author
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["tools", "decisions/README.md"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
default_role = "code"
highlight_language = "text"
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"ptycho-core {VERSION}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
# Lines of a page under its name would be fetched, which a browser refuses where pages are files.
html_show_search_summary = False
html_static_path = ["tools/static"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Write the reference before pages are looked for, and lead links out of this folder to the pages made of them."""
    app.connect("builder-inited", lambda app: reference.write(Path(app.srcdir) / "reference"))
    app.connect("source-read", outside.lead_in)
