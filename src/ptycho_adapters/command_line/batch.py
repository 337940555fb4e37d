"""What became of several scans: a table for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.atomic import commit_files
from ptycho_adapters.command_line.parts import table_names
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_adapters.command_line.parts import Part

_FIGURES = ("r_factor", "expected_r_factor", "deviance_per_px", "expected_deviance_per_px", "finish_steps")
_COLUMNS = ("file", "folder", "state", *_FIGURES, "seconds", "error")


class State(StrEnum):
    """What became of a scan."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Row:
    """One scan.

    Attributes:
        source: its file.
        folder: of its result.
        state: what became of it.
        figures: of the result, by name; what is not known is not in it.
        seconds: that it took, reading and writing included.
        error: why it failed; empty where it did not.
    """

    source: Path
    folder: Path
    state: State
    figures: Mapping[str, object]
    seconds: float
    error: str = ""

    def values(self) -> dict[str, str | float | None]:
        """Return what is known of the scan, by name; None for figures that are not."""
        known = {name: self.figures.get(name) for name in _FIGURES}
        numbers = {name: _finite(value) for name, value in known.items()}
        head = {"file": str(self.source), "folder": str(self.folder), "state": str(self.state)}
        return {**head, **numbers, "seconds": round(self.seconds, 3), "error": self.error}


def table(rows: Sequence[Row]) -> str:
    """Return file, state, R-factor and seconds of each scan as aligned text."""
    cells = [("file", "state", "R-factor", "seconds")]
    for row in rows:
        r_factor = _finite(row.figures.get("r_factor"))
        shown = "-" if r_factor is None else f"{r_factor:.4g}"
        cells.append((str(row.source), str(row.state), shown, f"{row.seconds:.1f}"))
    wide, middle, right, last = (max(map(len, column)) for column in zip(*cells, strict=True))
    return "\n".join(f"{a:<{wide}}  {b:<{middle}}  {c:>{right}}  {d:>{last}}" for a, b, c, d in cells)


def write_tables(rows: Sequence[Row], folder: Path, command: str, part: Part | None = None) -> list[Path]:
    """Write `summary.json` and `summary.csv` of all scans together, or those of a part; creates the folder.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_csv = (folder / name for name in table_names(part))
    values = [row.values() for row in rows]
    of_part = {} if part is None else {"part": str(part)}
    content = {"command": command, "code_version": VERSION, **of_part, "scans": values}
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    commit_files(
        {
            as_json: lambda path: _write(path, json.dumps(content, indent=2, allow_nan=False) + "\n"),
            as_csv: lambda path: _write(path, text.getvalue()),
        }
    )
    return [as_json, as_csv]


def _write(path: Path, text: str) -> None:
    # Names of files may hold bytes that are no text.
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
