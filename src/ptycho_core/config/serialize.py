"""Records as plain JSON values and back, without losing or adding anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import attrs
import numpy as np

from ptycho_core.config.record import Record
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Sequence

R = TypeVar("R", bound=Record)

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


def unstructure(record: Record) -> dict[str, JsonValue]:
    """Return a record's fields as plain JSON values."""
    return {field.name: _plain(getattr(record, field.name)) for field in attrs.fields(type(record))}


def structure(record: type[R], data: object, path: str = "") -> R:
    """Return the record that `unstructure` wrote down. Nothing is filled in, left out or converted in spirit.

    Args:
        record: the class.
        data: a mapping with exactly the record's fields.
        path: where the data stand, for messages.

    Raises:
        ConfigError: a field is missing, unknown or not valid; all of them at once.
    """
    where = path or record.__name__
    if not isinstance(data, Mapping):
        raise ConfigError(where, [Problem(path=where, expected="a table of settings", found=shown(data))])
    kinds = {field.name: field.type for field in attrs.fields(record)}
    problems = [
        Problem(path=f"{where}.{name}", expected="a known field", found="an unknown one")
        for name in data
        if name not in kinds
    ]
    problems += [
        Problem(path=f"{where}.{name}", expected="a value", found="nothing") for name in kinds if name not in data
    ]
    values: dict[str, object] = {}
    for name, kind in kinds.items():
        if name in data:
            values[name] = data[name]
            if isinstance(kind, type) and issubclass(kind, Record):
                values[name] = _collect(kind, data[name], f"{where}.{name}", problems)
    raise_if_any(ConfigError, where, problems)
    try:
        return record(**values)
    except ConfigError as error:
        located = [attrs.evolve(problem, path=f"{where}.{problem.path}") for problem in error.problems]
        raise ConfigError(where, located) from None


def _collect(kind: type[Record], data: object, path: str, problems: list[Problem]) -> Record | None:
    try:
        return structure(kind, data, path)
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _plain(value: object) -> JsonValue:
    if isinstance(value, Record):
        return unstructure(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()] if value.ndim == 1 else [_plain(row) for row in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    message = f"{type(value).__name__} has no place in JSON"
    raise TypeError(message)
