"""Error against compute of pretrainings: `python benchmarks/pretraining.py LOG.jsonl ...`.

Each log is what a run of `python -m ptycho_adapters.pretraining` left beside its weights. Printed is a table for a
page, one row for each run; drawn are the errors of all reports, on fresh groups without faults and with them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from charts import Panel, draw
from harness import RESULTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Reports = Sequence[Mapping[str, float]]

_KINDS = {"sound_error": "fresh groups", "faulty_error": "fresh groups with faults"}


def main() -> None:
    """Print the table, write it to `results/pretraining.md`, and draw `results/pretraining.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG.jsonl")
    runs = {path.stem: read(path) for path in parser.parse_args().logs}
    made = table(runs)
    print(made)
    draw("pretraining", panels(runs))
    (RESULTS / "pretraining.md").write_text(made + "\n")


def read(log: Path) -> Reports:
    """Read the reports of one run."""
    reports = [json.loads(line) for line in log.read_text().splitlines()]
    if not reports:
        raise SystemExit(f"{log}: expected a line of JSON for each report, found none")
    return reports


def table(runs: Mapping[str, Reports]) -> str:
    """Give a Markdown table of the last reports, the cheapest run first."""
    rows = ["| run | steps | operations | hours | error, sound | error, with faults |", "|---|---|---|---|---|---|"]
    for name, reports in sorted(runs.items(), key=lambda run: run[1][-1]["operations"]):
        last = reports[-1]
        rows.append(
            f"| {name} | {last['step']:,} | {last['operations']:.1e} | {last['seconds'] / 3600:.2f} "
            f"| {last['sound_error']:.3f} | {last['faulty_error']:.3f} |"
        )
    return "\n".join(rows)


def panels(runs: Mapping[str, Reports]) -> list[Panel]:
    """Give the errors of all reports over their operations."""
    return [
        Panel(
            title=title,
            x="operations",
            y="relative squared error",
            lines={
                name: ([each["operations"] for each in reports], [each[kind] for each in reports])
                for name, reports in runs.items()
            },
            x_scale="log",
            y_scale="log",
        )
        for kind, title in _KINDS.items()
    ]


if __name__ == "__main__":
    main()
