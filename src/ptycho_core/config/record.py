"""The base of every configuration record: reads each field strictly and reports everything that is wrong at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

import attrs

from ptycho_core.config.serialize import read_field
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@attrs.frozen(kw_only=True, slots=False)
class Record:
    """Base of the frozen records: each is `attrs.frozen(kw_only=True, slots=False)`, so that several can be inherited.

    Construction brings every value into its annotated type and the record's spelling, then checks the field's rules and
    the record's own.

    Raises:
        ConfigError: with one problem per offending field.
    """

    def __attrs_post_init__(self) -> None:
        problems: list[Problem] = []
        # attrs' own converters and validators stop at the first field that is wrong.
        for field in attrs.fields(type(self)):
            value, found = read_field(field, getattr(self, field.name), field.name)
            object.__setattr__(self, field.name, value)
            problems += found
        raise_if_any(ConfigError, type(self).__name__, problems or self._contradictions())
        for name, value in self._consequences().items():
            object.__setattr__(self, name, value)

    def _contradictions(self) -> Iterator[Problem]:
        """Yield what is wrong between fields; runs when each field by itself is right."""
        return iter(())

    def _consequences(self) -> Mapping[str, object]:
        """Return fields whose value follows from other fields; runs when the record is right."""
        return {}


@attrs.frozen(kw_only=True, slots=False)
class Explicit(Record):
    """Remembers which fields a caller passed, so that a default can be told from the same value said on purpose."""

    def __new__(cls, **given: object) -> Self:
        """Note the names that the constructor is called with."""
        self = super().__new__(cls)
        self.__dict__["explicit_names"] = frozenset(given)
        return self

    @property
    def explicit(self) -> frozenset[str]:
        """Names of the fields that were passed to the constructor."""
        names: frozenset[str] = self.__dict__["explicit_names"]
        return names


R = TypeVar("R", bound=Record)


def evolve(record: R, **changes: object) -> R:
    """Return the record with some fields changed, checked anew.

    On a record that remembers what was set, the changed fields join that set; `attrs.evolve` passes every field, so its
    result counts as set throughout.

    Raises:
        ConfigError: the changes name no field or are not valid.
    """
    known = {attribute.name: getattr(record, attribute.name) for attribute in attrs.fields(type(record))}
    raise_if_any(
        ConfigError,
        type(record).__name__,
        [
            Problem(path=name, expected="a field of the record", found="an unknown name")
            for name in changes.keys() - known
        ],
    )
    changed = type(record)(**{**known, **changes})
    if isinstance(record, Explicit):
        remember(changed, record.explicit | changes.keys())
    return changed


def remember(record: Record, explicit: frozenset[str]) -> None:
    """Set which fields of a freshly built record count as set by the caller."""
    record.__dict__["explicit_names"] = explicit
