"""The reference: pages made of what the program itself says, written before the site is built.

Commands come from their parsers, settings from the field table, names from the packages, and messages from mistakes
that are made for the purpose. `python docs/tools/reference.py FOLDER` writes them without building the site.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import reference_api
import reference_commands
import reference_errors
import reference_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTENTS = """# Reference

Made from the program when this site is built: nothing on these pages is written by hand a second time.

```{toctree}
commands
settings
errors
api
```

Which file formats are read and written: [File formats](../formats.md). What each backend does with each setting, in
one table: [Backends](../backends.md).
"""


def write(folder: Path) -> None:
    """Write all pages; what has not changed is left alone, so that it is not built again.

    Args:
        folder: made where it is not there; pages of an earlier time that are no more are removed.
    """
    made = pages()
    for path in folder.rglob("*.*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in made:
            path.unlink()
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> Mapping[str, str]:
    """Return the pages by their paths."""
    return {
        "index.md": _CONTENTS,
        **reference_commands.pages(),
        **reference_settings.pages(),
        **reference_errors.pages(),
        **reference_api.pages(),
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]))
