"""What a command reports about its work."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.report.decisions import Decision
from ptycho_core.config.serialize import json_value
from ptycho_core.measurement.findings import Finding
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from ptycho_core.config.serialize import JsonValue

MADE_FROM = "made_from"


@attrs.frozen(kw_only=True)
class Summary:
    """What a command reports, for people and for machines.

    Attributes:
        command: its name.
        title: one line about what was done.
        figures: numbers and words by name, with units in the names.
        inputs: what it worked on.
        settings: what somebody chose.
        findings: what may be wrong with the scan or the fit, or was put right.
        decisions: what the command decided by itself, and why.
        made_from: all that the result hangs on, so that the same again can be told; empty where nobody asks.
    """

    command: str
    title: str
    figures: Mapping[str, object]
    inputs: Mapping[str, Path | str]
    settings: Mapping[str, object] = attrs.field(factory=dict)
    findings: tuple[Finding, ...] = ()
    decisions: tuple[Decision, ...] = ()
    made_from: Mapping[str, object] = attrs.field(factory=dict)

    def to_json(self) -> bytes:
        """Return it as JSON; infinite and undefined numbers become null."""
        content: dict[str, JsonValue] = {
            "command": self.command,
            "code_version": VERSION,
            "inputs": {name: str(path) for name, path in self.inputs.items()},
            "figures": figures_in_json(self.figures),
            "settings": {name: json_value(value) for name, value in self.settings.items()},
            "findings": [finding.to_json() for finding in self.findings],
            "decisions": [{"about": str(each.about), "text": each.text} for each in self.decisions],
        }
        if self.made_from:
            content[MADE_FROM] = json_value(dict(self.made_from))
        return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def figures_in_json(figures: Mapping[str, object]) -> dict[str, JsonValue]:
    """Give figures by name as JSON has them."""
    return {name: json_value(_finite(value)) for name, value in figures.items()}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
