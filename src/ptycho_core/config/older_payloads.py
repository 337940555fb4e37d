"""Payloads of older formats: which fields they cannot have, and what stands for those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ptycho_core.config.knob import BARE, ELSEWHERE, Since, entry_of, key_of
from ptycho_core.config.overrides import resolve
from ptycho_core.config.serialize import json_value
from ptycho_core.config.table import TRAINING
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISCOUNTED = 1
"""The format whose number was also written with the settings of the next one; that those are there tells them apart."""

_FIRST = Since(version=1)
_PROVENANCE = "provenance"


@attrs.frozen(kw_only=True)
class _Field:
    """A setting as a payload holds it: names of the records around it, its own, its key, and since when it is there."""

    records: tuple[str, ...]
    name: str
    key: str
    since: Since

    @property
    def path(self) -> str:
        return ".".join((*self.records, self.name))


def newest(stored: type[attrs.AttrsInstance]) -> int:
    """Return the format that a class of payloads is written in: that of the field that came last."""
    return max(field.since.version for field in _fields(stored))


def format_of(stored: type[attrs.AttrsInstance], data: Mapping[str, object]) -> object:
    """Return the format that data are in, as far as they say it."""
    version = data.get("format_version")
    if version != _MISCOUNTED or isinstance(version, bool | float):
        return version
    later = [field for field in _fields(stored) if field.since.version == _MISCOUNTED + 1]
    return _MISCOUNTED + any(field.name in _record(data, field.records) for field in later)


def brought_up(
    stored: type[attrs.AttrsInstance], data: Mapping[str, object], version: int
) -> tuple[dict[str, object], dict[str, object], list[Problem]]:
    """Add to data of an older format what its software did without the fields that it did not have.

    Args:
        stored: class of the payloads.
        data: as they were read.
        version: format that they are in.

    Returns:
        The data in the present format; what was added, by key; fields that the older format did not have.
    """
    fields = _fields(stored)
    later = [field for field in fields if field.since.version > version]
    problems = [
        Problem(path=field.path, expected=f"no such field in format {version}", found="one")
        for field in later
        if field.name in _record(data, field.records)
    ]
    known = {
        field.key: _record(data, field.records).get(field.name)
        for field in fields
        if field.since.version <= version and field.name in _record(data, field.records)
    }
    added: dict[str, object] = {}
    result: dict[str, Any] = {name: _copy(value) for name, value in data.items()}
    for field in later:
        value = known.get(field.key) if field.since.before is ELSEWHERE else json_value(field.since.before)
        record = _record(result, field.records)
        if isinstance(record, dict):
            record.setdefault(field.name, value)
        if field.key not in known:
            added[field.key] = value
    sources = result.get(_PROVENANCE)
    if isinstance(sources, dict):
        nobody = resolve({}, TRAINING).provenance
        for key in added:
            sources.setdefault(key, str(nobody[key]))
    return result, added, problems


def _copy(value: object) -> object:
    return {name: _copy(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _record(data: Mapping[str, object], names: tuple[str, ...]) -> Mapping[str, object]:
    """Return the data of a record; nothing where there is none, which the reading says."""
    found: object = data
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _fields(record: type[attrs.AttrsInstance], around: tuple[str, ...] = ()) -> list[_Field]:
    return list(_walk(record, around))


def _walk(record: type[attrs.AttrsInstance], around: tuple[str, ...]) -> Iterator[_Field]:
    for attribute in attrs.fields(record):
        inner = attribute.type
        if isinstance(inner, type) and attrs.has(inner):
            yield from _walk(inner, (*around, attribute.name))
        elif around and around[0] != _PROVENANCE:
            entry = entry_of(attribute) or BARE
            yield _Field(records=around, name=attribute.name, key=key_of(attribute, entry), since=entry.since or _FIRST)
