"""Settings from a TOML file: a flat table of names, or the same in tables named like the sections of the help."""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING

from ptycho_adapters.command_line.flags import flags
from ptycho_adapters.command_line.text_values import may_be_none, read_text
from ptycho_adapters.setting_sections import SECTIONS
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ptycho_core.config.table import Table

Entry = tuple[str, str, object]


def read_settings(path: Path, table: Table) -> dict[str, object]:
    """Read the settings of a configuration file.

    Names are keys or aliases, with underscores or hyphens. Values keep their TOML types; the text "none" stands for no
    value where a setting may be left out, since TOML has no word for it.

    Args:
        path: the file.
        table: the settings of the command.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it is not TOML, or has unknown names or tables; all of them at once.
    """
    entries = list(_entries(_parsed(path)))
    known = table.names
    problems = [
        _foreign_table(where) if isinstance(value, dict) else table.unknown(name, where)
        for where, name, value in entries
        if name not in known or isinstance(value, dict)
    ]
    names = [name for _, name, _ in entries]
    problems += [
        Problem(path=where, expected="every setting once", found=f"{names.count(name)} times")
        for where, name, _ in entries
        if names.count(name) > 1
    ]
    raise_if_any(ConfigError, str(path), problems)
    annotations = {flag.name: flag.annotation for flag in flags(table)}
    return {name: _value(value, annotations[name]) for _, name, value in entries}


def _parsed(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"Configuration file not found: {path}"
        raise FileNotFoundError(message) from None
    except (ValueError, RecursionError) as error:  # also text that is no UTF-8, endless nesting, endless numbers
        raise ConfigError(str(path), [Problem(path="file", expected="TOML", found=str(error))]) from None


def _entries(data: Mapping[str, object]) -> Iterator[Entry]:
    """Yield (where it stands, name, value) of every setting, sections unfolded."""
    for name, value in data.items():
        if name in SECTIONS and isinstance(value, dict):
            for inner, content in value.items():
                yield f"{name}.{inner}", inner.replace("-", "_"), content
        else:
            yield name, name.replace("-", "_"), value


def _foreign_table(name: str) -> Problem:
    near = difflib.get_close_matches(name, SECTIONS, n=2)
    fix = f"did you mean [{'] or ['.join(near)}]?" if near else ""
    return Problem(path=f"[{name}]", expected=f"one of the tables {', '.join(SECTIONS)}", found="another one", fix=fix)


def _value(value: object, annotation: object) -> object:
    """Return a value; texts that stand for none or for an array file are read like those of a flag."""
    if not isinstance(value, str):
        return value
    read = read_text(value, annotation)
    stands_for_more = may_be_none(annotation) and not isinstance(read, bool | int | float)
    return read if stands_for_more else value
