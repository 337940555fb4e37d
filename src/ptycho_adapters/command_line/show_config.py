"""The resolved configuration with the source of every value, for people and for machines."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.command_line import console
from ptycho_adapters.setting_sections import SECTIONS, section_of
from ptycho_adapters.wording import shown_value, source_in_words
from ptycho_core.config.backend_limits import for_backend
from ptycho_core.config.bridge import settings_of
from ptycho_core.config.overrides import Layer, resolve
from ptycho_core.config.payload import refusals
from ptycho_core.config.serialize import json_value
from ptycho_core.config.table import FieldInfo
from ptycho_core.errors import ConfigError, DependencyError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ptycho_adapters.command_line.run_request import RunRequest
    from ptycho_core.config.payload import InferencePayload, TrainingPayload

MISSING = "required"


@attrs.frozen(kw_only=True, eq=False)
class Setting:
    """One setting of a resolved configuration.

    Attributes:
        info: what it is.
        value: effective value in canonical spelling.
        source: layer that it comes from; None where it still has to be given.
    """

    info: FieldInfo
    value: object
    source: Layer | None


def show_settings(
    request: RunRequest,
    payload: TrainingPayload | InferencePayload | None,
    facts: Mapping[Layer, Mapping[str, object]] | None = None,
) -> None:
    """Print the settings that a run reads with the source of each, as `--print-config` asks.

    Args:
        request: what the command was told.
        payload: the planned run; None as long as something that it needs is missing.
        facts: for a run that cannot be planned, what the files that were named say.

    Raises:
        ConfigError: a setting is unknown, not valid, or cannot be honoured.
        DependencyError: the table's package is not installed.
    """
    values: Mapping[str, object]
    provenance: Mapping[str, Layer]
    if payload is not None:
        values, provenance = settings_of(*payload.records), payload.provenance
    else:
        layers = {Layer.CLI: request.cli, Layer.FILE: request.file, **(facts or {})}
        resolution = for_backend(resolve(layers, request.table), request.table)
        raise_if_any(ConfigError, "settings", refusals(resolution, request.table))
        values, provenance = resolution.values, resolution.provenance
    found = []
    for info in sorted(request.table, key=lambda info: list(SECTIONS).index(section_of(info))):
        source = provenance[info.key]
        # The paths are arguments of the factory; where they were said is what counts here.
        source = request.source(info.key) if source is Layer.EXPLICIT else source
        # What only the other kind of run reads is shown where somebody chose it all the same.
        if not request.table.reads(info) and not source.chosen:
            continue
        missing = info.key in request.required and source.default
        found.append(Setting(info=info, value=values[info.key], source=None if missing else source))
    if request.as_json:
        console.tell(as_json(found))
    else:
        print_table(found)


def as_json(shown: Sequence[Setting]) -> str:
    """Return the configuration as JSON: ``{"settings": {key: {"value", "unit", "source", "names"}}}``."""
    content = {
        setting.info.key: {
            "value": json_value(setting.value),
            "unit": setting.info.unit,
            "source": MISSING if setting.source is None else str(setting.source),
            "section": section_of(setting.info),
            "aliases": list(setting.info.aliases),
        }
        for setting in shown
    }
    return json.dumps({"settings": content}, indent=2, allow_nan=False)


def print_table(shown: Sequence[Setting]) -> None:
    """Print the configuration as a table on standard output.

    Raises:
        DependencyError: rich is not installed.
    """
    if importlib.util.find_spec("rich") is None:
        message = "--print-config as a table needs rich: pip install 'rich>=13.9'; --json does without"
        raise DependencyError(message)
    from rich.console import Console  # noqa: PLC0415 - only this command needs it
    from rich.table import Table as RichTable  # noqa: PLC0415

    terminal = Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty())
    for section, title in SECTIONS.items():
        rows = [setting for setting in shown if section_of(setting.info) == section]
        if rows:
            table = RichTable(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
            for column, style in (("setting", ""), ("value", ""), ("unit", "dim"), ("source", "")):
                table.add_column(column, style=style, no_wrap=True)
            for setting in rows:
                # What somebody chose stands out.
                style = "bold" if setting.source is None or setting.source.chosen else "dim"
                source = MISSING if setting.source is None else source_in_words(setting.source)
                table.add_row(setting.info.key, _cell(setting), setting.info.unit, source, style=style)
            terminal.print(table)
            terminal.print()


def _cell(setting: Setting) -> str:
    from rich.markup import escape  # noqa: PLC0415 - see above

    if setting.source is None:
        return "-"
    value = setting.value
    return f"array {value.shape}" if isinstance(value, np.ndarray) else escape(shown_value(value))
