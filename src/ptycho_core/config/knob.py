"""What is known about one setting, kept beside the field that holds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

import attrs

T = TypeVar("T")

_METADATA_KEY = "ptycho_core.knob"


class Effect(StrEnum):
    """Who acts on a setting.

    RUN: it changes what this library does. LEGACY: legacy consumers read it from the parameter dict, nothing here does.
    RECORD: it is a label in archives and logs. FIXED: only the default, or the values listed in `Knob.only`, can be
    honoured; any other is refused when a payload is built.
    """

    RUN = "run"
    LEGACY = "legacy"
    RECORD = "record"
    FIXED = "fixed"


class Phase(StrEnum):
    """The kinds of run that read a setting; the other kind refuses any value that asks for something."""

    BOTH = "both"
    TRAINING = "training"
    RECONSTRUCTION = "reconstruction"


class UntranslatableError(ValueError):
    """A value that has no counterpart in the other spelling.

    Attributes:
        expected: what would have one.
        fix: what to do about it; may be empty.
    """

    def __init__(self, expected: str, fix: str = "") -> None:
        self.expected = expected
        self.fix = fix
        super().__init__(expected)


def _same(value: object) -> object:
    return value


@attrs.frozen(kw_only=True)
class Codec:
    """Two spellings of one value: `decode` gives the canonical spelling, `encode` the other one.

    `decode` passes on what it does not know, so that the type check can speak about it, and raises
    `UntranslatableError` for a valid value without a canonical counterpart.
    """

    decode: Callable[[object], object] = _same
    encode: Callable[[object], object] = _same


IDENTITY = Codec()


def words(table: Mapping[str, str]) -> Codec:
    """Return a codec over a fixed vocabulary: other spelling to canonical one; the first entry of equals is encoded."""
    back: dict[str, str] = {}
    for other, canonical in table.items():
        back.setdefault(canonical, other)
    return Codec(
        decode=lambda value: table.get(value, value) if isinstance(value, str) else value,
        encode=lambda value: back.get(value, value) if isinstance(value, str) else value,
    )


@attrs.frozen(kw_only=True)
class Rule:
    """A condition beyond the type, with the words for it."""

    expected: str
    holds: Callable[[object], bool]


def _numeric(expected: str, holds: Callable[[float], bool]) -> Rule:
    # Words such as 'auto' are allowed by the type alone; a rule about numbers has nothing to say about them.
    return Rule(expected=expected, holds=lambda value: not isinstance(value, int | float) or holds(value))


def above(limit: float) -> Rule:
    """Return the rule `value > limit`."""
    return _numeric("a positive number" if limit == 0 else f"more than {limit}", lambda value: value > limit)


def at_least(limit: float) -> Rule:
    """Return the rule `value >= limit`."""
    return _numeric(f"{limit} or more", lambda value: value >= limit)


def below(limit: float) -> Rule:
    """Return the rule `value < limit`."""
    return _numeric(f"less than {limit}", lambda value: value < limit)


def within(low: float, high: float) -> Rule:
    """Return the rule `low <= value <= high`."""
    return _numeric(f"a number from {low} to {high}", lambda value: low <= value <= high)


POWER_OF_TWO = Rule(expected="a positive power of 2", holds=lambda v: isinstance(v, int) and v > 0 and v & (v - 1) == 0)
DURATION = Rule(
    expected="a duration DD:HH:MM:SS, such as 00:00:10:00",
    holds=lambda v: (
        isinstance(v, str)
        and re.fullmatch(r"\d{2,}:([01]\d|2[0-3]):[0-5]\d:[0-5]\d", v, flags=re.ASCII) is not None
        and any(digit in v for digit in "123456789")
    ),
)
RISING = Rule(
    expected="two fractions 0 <= low < high <= 1",
    holds=lambda v: isinstance(v, tuple) and len(v) == 2 and 0 <= v[0] < v[1] <= 1,
)
POSITIVE_SIZES = Rule(expected="positive sizes", holds=lambda v: isinstance(v, tuple) and all(size > 0 for size in v))
NOT_EMPTY = Rule(expected="a name", holds=lambda v: isinstance(v, str) and v.strip() != "")


ELSEWHERE: Final[object] = object()
"""Stands for a value that another record of the same archive holds."""


@attrs.frozen(kw_only=True)
class Since:
    """When a field came into archives, and what stands for it in those that were written before.

    Attributes:
        version: the format of payloads that it came with.
        before: the value, as the record spells it, under which a run is as it was without the setting; where another
            record had the setting already, it is that one's.
    """

    version: int
    before: object = ELSEWHERE


@attrs.frozen(kw_only=True)
class Alias:
    """Another name for a key, perhaps with another spelling of its values; `deprecated` says what to write instead."""

    name: str
    codec: Codec = IDENTITY
    deprecated: bool = False


@attrs.frozen(eq=False)
class Knob:
    """One setting, whatever records hold it.

    Attributes:
        doc: one line of help, without the unit.
        key: the canonical name; the field's own name when empty.
        unit: unit of the value; empty for pure numbers.
        rules: conditions beyond the type; None always passes where the type allows it.
        aliases: other names of the same key.
        complaint: opening words of the message about a value outside the vocabulary.
        legacy: name in the legacy parameter dict; the field's own name when empty.
        effect: who acts on it.
        only: with `Effect.FIXED`, the values that can be honoured; the default when empty.
        kinds: with `Effect.FIXED`, types of which every value can be honoured beside those.
        why: with `Effect.FIXED`, the reason.
        in_weights: whether trained weights only fit this value.
        part_of: with `Effect.FIXED`, the architectures under which every value can be honoured.
        phase: the kind of run that reads it.
        idle: values beside the default that ask nothing of the other kind of run.
        unread: where the other kind takes any value with a warning, as existing callers expect: the reason in it.
    """

    doc: str
    key: str = attrs.field(default="", kw_only=True)
    unit: str = attrs.field(default="", kw_only=True)
    rules: tuple[Rule, ...] = attrs.field(default=(), kw_only=True)
    aliases: tuple[Alias, ...] = attrs.field(default=(), kw_only=True)
    complaint: str = attrs.field(default="", kw_only=True)
    legacy: str = attrs.field(default="", kw_only=True)
    effect: Effect = attrs.field(default=Effect.RUN, kw_only=True)
    only: tuple[object, ...] = attrs.field(default=(), kw_only=True)
    kinds: tuple[type, ...] = attrs.field(default=(), kw_only=True)
    why: str = attrs.field(default="", kw_only=True)
    in_weights: bool = attrs.field(default=False, kw_only=True)
    part_of: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    phase: Phase = attrs.field(default=Phase.BOTH, kw_only=True)
    idle: tuple[object, ...] = attrs.field(default=(), kw_only=True)
    unread: str = attrs.field(default="", kw_only=True)

    def field(self, default: T, *, codec: Codec | None = None, since: Since | None = None) -> T:
        """Return an attrs field with this knob and a default.

        Args:
            default: of the field.
            codec: for a record with a spelling of its own.
            since: for a field that older archives do not have.
        """
        return attrs.field(default=default, metadata={_METADATA_KEY: Entry(knob=self, codec=codec, since=since)})

    def metadata(self, *, codec: Codec | None = None) -> dict[str, Entry]:
        """Return the metadata for a field that needs more than a plain default."""
        return {_METADATA_KEY: Entry(knob=self, codec=codec)}


@attrs.frozen(kw_only=True)
class Entry:
    """A knob as one field holds it."""

    knob: Knob
    codec: Codec | None = None
    since: Since | None = None


BARE = Entry(knob=Knob(""))
"""Stands in for a field that is not a setting of its own."""


def entry_of(attribute: attrs.Attribute[object]) -> Entry | None:
    """Return the entry of a record's field; None for a field that is not a setting of its own."""
    entry = attribute.metadata.get(_METADATA_KEY)
    return entry if isinstance(entry, Entry) else None


def key_of(attribute: attrs.Attribute[object], entry: Entry) -> str:
    """Return the canonical key that a record's field holds."""
    return entry.knob.key or attribute.name


def codec_of(attribute: attrs.Attribute[object], entry: Entry) -> Codec:
    """Return how a record's field spells the key's values."""
    if entry.codec is not None:
        return entry.codec
    return next((alias.codec for alias in entry.knob.aliases if alias.name == attribute.name), IDENTITY)
