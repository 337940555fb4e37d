"""The field table: every setting once, read off the records that hold it."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.knob import Codec, Effect, Knob, Phase, UntranslatableError, codec_of, entry_of, key_of
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.record import Record
from ptycho_core.config.serialize import read_setting
from ptycho_core.config.shared import ONE_OBJECT, OTHER_GENERATOR, Draw, Sampling
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig
from ptycho_core.config.types import choices, shown
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CANONICAL: tuple[type[Record], ...] = (ModelConfig, TrainingConfig, InferenceConfig)
TORCH_SIDE: tuple[type[Record], ...] = (
    DataConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TorchInferenceConfig,
    PyTorchExecutionConfig,
)
EVERY = CANONICAL + TORCH_SIDE
DERIVED = MappingProxyType(dict.fromkeys(("C", "C_model", "C_forward"), "it is gridsize**2; set gridsize"))
OTHER_PHASE: Mapping[Phase, Phase] = MappingProxyType(
    {Phase.TRAINING: Phase.RECONSTRUCTION, Phase.RECONSTRUCTION: Phase.TRAINING}
)


@attrs.frozen(kw_only=True)
class Owner:
    """A record's field that holds a key, with its spelling of the values."""

    record: type[Record]
    attribute: str
    codec: Codec


@attrs.frozen(kw_only=True, eq=False)
class FieldInfo:
    """One setting: everything that surfaces such as the command line and the documentation need.

    Attributes:
        key: canonical name.
        annotation: Python type of the canonical spelling.
        default: value of a run in which nobody set it; None also where it has to be set.
        knob: help, unit, rules, aliases, effect.
        native: how the canonical spelling reads its own synonyms.
        owners: the records' fields that hold it.
    """

    key: str
    annotation: object
    default: object
    knob: Knob
    native: Codec
    owners: tuple[Owner, ...]

    @property
    def doc(self) -> str:
        """One line of help."""
        return self.knob.doc

    @property
    def unit(self) -> str:
        """Unit of the value; empty for pure numbers."""
        return self.knob.unit

    @property
    def choices(self) -> tuple[object, ...]:
        """The values, where they form a vocabulary."""
        return choices(self.annotation)

    @property
    def effect(self) -> Effect:
        """Who acts on it."""
        return self.knob.effect

    @property
    def phase(self) -> Phase:
        """The kind of run that reads it."""
        return self.knob.phase

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names."""
        return tuple(alias.name for alias in self.knob.aliases)

    @property
    def honoured(self) -> tuple[object, ...]:
        """The only values that a run accepts, for a setting that cannot be chosen freely; empty otherwise."""
        return (self.knob.only or (self.default,)) if self.effect is Effect.FIXED else ()

    def honours(self, value: object, architecture: object) -> bool:
        """Tell whether a run with this architecture can honour a value."""
        free = not self.honoured or architecture in self.knob.part_of
        return free or value in self.honoured or isinstance(value, self.knob.kinds)

    def why_not(self, architecture: object) -> str:
        """Say why a value cannot be honoured; a package's network is told by its name, as ours are in the reason."""
        if not isinstance(architecture, PackageGenerator) or self.knob.why not in (OTHER_GENERATOR, ONE_OBJECT):
            return self.knob.why
        homes = " or ".join(self.knob.part_of)
        return f"{self.key} is for {homes}, not for {architecture}" if homes else f"{architecture} has no such part"

    def read(self, value: object, path: str) -> tuple[object, list[Problem]]:
        """Return a value in the canonical type and spelling, with what is wrong with it."""
        return read_setting(self.knob, self.native.decode(value), self.annotation, path)


class Table:
    """The settings of a set of records, by key and by alias.

    Attributes:
        records: the records, in the order in which they speak for a default.
        phase: the kind of run that the settings are for; both where they are for none in particular.
        names: every name and alias with the key that it stands for.
    """

    def __init__(
        self, *records: type[Record], phase: Phase = Phase.BOTH, without: frozenset[str] = frozenset()
    ) -> None:
        self.records = records
        self.phase = phase
        grouped: dict[str, list[_Held]] = {}
        for held in (held for record in records for held in _HELD[record]):
            grouped.setdefault(held.key, []).append(held)
        self._fields = {key: _merged(key, views) for key, views in grouped.items() if key not in without}
        self._names = {key: (key, info.native) for key, info in self._fields.items()}
        for key, info in self._fields.items():
            self._names |= {alias.name: (key, alias.codec) for alias in info.knob.aliases}
        self.names: Mapping[str, str] = MappingProxyType({name: key for name, (key, _) in self._names.items()})

    def __iter__(self) -> Iterator[FieldInfo]:
        return iter(self._fields.values())

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __getitem__(self, key: str) -> FieldInfo:
        return self._fields[key]

    def key(self, name: str) -> str | None:
        """Return the key that a name or an alias stands for; None for an unknown one."""
        return self.names.get(name)

    def reads(self, info: FieldInfo) -> bool:
        """Tell whether the kind of run that the table is for reads a setting."""
        return Phase.BOTH in {self.phase, info.phase} or self.phase is info.phase

    def translate(self, name: str, value: object, path: str) -> tuple[object, list[Problem]]:
        """Return the value given under a known name or alias in the key's canonical spelling, with its problems."""
        key, codec = self._names[name]
        try:
            decoded = codec.decode(value)
        except UntranslatableError as error:
            return value, [Problem(path=path, expected=error.expected, found=shown(value), fix=error.fix)]
        return self._fields[key].read(decoded, path)

    def spelled(self, name: str, value: object) -> object:
        """Return a canonical value as the name or alias spells it."""
        return self._names[name][1].encode(value)

    def unknown(self, name: object, path: str) -> Problem:
        """Return the problem of a name that is not in the table, with the names that look like it."""
        if isinstance(name, str) and name in DERIVED:
            return Problem(path=path, expected="a setting", found="a derived value", fix=DERIVED[name])
        if isinstance(name, str) and name in ALL.names and self.phase in OTHER_PHASE:
            own = [info.key for info in self if any(owner.attribute == name for owner in info.owners)]
            return Problem(
                path=path,
                expected=f"a setting of a {self.phase}",
                found=f"one of a {OTHER_PHASE[self.phase]}",
                fix=", or say ".join(["leave it out", *own]),
            )
        near = difflib.get_close_matches(name, self._names, n=3) if isinstance(name, str) else []
        fix = f"did you mean {' or '.join(near)}?" if near else ""
        return Problem(path=path, expected="a known setting", found="an unknown name", fix=fix)


def _read_defaults(record: type[Record]) -> Mapping[str, object]:
    stand_ins: dict[str, object] = {"model": ModelConfig(), "model_path": Path(), "test_data_file": Path()}
    required = {field.name for field in attrs.fields(record) if field.default is attrs.NOTHING}
    instance = record(**{name: stand_ins[name] for name in required})
    return MappingProxyType(
        {
            held.key: held.owner.codec.decode(getattr(instance, held.owner.attribute))
            for held in _HELD[record]
            if held.owner.attribute not in required
        }
    )


def keys(*records: type[Record]) -> frozenset[str]:
    """Return the keys that any of the records holds."""
    return frozenset(held.key for record in records for held in _views(record))


def read_record(record: Record) -> tuple[dict[str, object], list[Problem]]:
    """Return a record's settings by key in canonical spelling, with those that have no canonical counterpart."""
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for held in _HELD[type(record)]:
        # A field under an alias may say less than the key's own field beside it.
        if held.key in values and held.owner.attribute != held.key:
            continue
        given: object = getattr(record, held.owner.attribute)
        try:
            values[held.key] = held.owner.codec.decode(given)
        except UntranslatableError as error:
            path = f"{type(record).__name__}.{held.owner.attribute}"
            problems.append(Problem(path=path, expected=error.expected, found=shown(given), fix=error.fix))
    return values, problems


def spell(record: type[Record], values: Mapping[str, object]) -> dict[str, object]:
    """Return the record's fields whose keys have a value, in the record's spelling."""
    return {
        held.owner.attribute: held.owner.codec.encode(values[held.key]) for held in _HELD[record] if held.key in values
    }


def fields() -> tuple[FieldInfo, ...]:
    """Return every setting of every record."""
    return tuple(ALL)


@attrs.frozen(kw_only=True, eq=False)
class _Held:
    """A key as one field of one record holds it."""

    key: str
    annotation: object
    knob: Knob
    owner: Owner


def _views(record: type[Record]) -> tuple[_Held, ...]:
    found = []
    for attribute in attrs.fields(record):
        entry = entry_of(attribute)
        if entry is not None:
            owner = Owner(record=record, attribute=attribute.name, codec=codec_of(attribute, entry))
            key = key_of(attribute, entry)
            found.append(_Held(key=key, annotation=attribute.type, knob=entry.knob, owner=owner))
    return tuple(found)


def _speaker(key: str) -> _Held:
    """Return the field that gives a key's type and rules: the first of any record that bears the key's own name."""
    views = [view for record in EVERY for view in _HELD[record] if view.key == key]
    return next((view for view in views if view.owner.attribute == key), views[0])


def _merged(key: str, views: Sequence[_Held]) -> FieldInfo:
    """Return all views of a key as one."""
    speaker = _speaker(key)
    known = [DEFAULTS[view.owner.record] for view in sorted(views, key=lambda view: view.owner.record in CANONICAL)]
    return FieldInfo(
        key=key,
        annotation=speaker.annotation,
        default=next((found[key] for found in known if key in found), None),
        knob=speaker.knob,
        native=speaker.owner.codec,
        owners=tuple(view.owner for view in views),
    )


_HELD: Mapping[type[Record], tuple[_Held, ...]] = MappingProxyType({record: _views(record) for record in EVERY})
DEFAULTS: Mapping[type[Record], Mapping[str, object]] = MappingProxyType(
    {record: _read_defaults(record) for record in EVERY}
)
"""Defaults by key, in canonical spelling; required fields are not in it."""

ALL = Table(*EVERY)
# What only a reconstruction has is not a setting of a training.
TRAINING = Table(
    ModelConfig,
    TrainingConfig,
    *TORCH_SIDE,
    phase=Phase.TRAINING,
    without=keys(InferenceConfig) - keys(TrainingConfig),
)
INFERENCE = Table(
    ModelConfig,
    InferenceConfig,
    DataConfig,
    TorchModelConfig,
    TorchInferenceConfig,
    PyTorchExecutionConfig,
    phase=Phase.RECONSTRUCTION,
)
# What describes the model and its data, and so belongs to an archive, as opposed to one run's choice of groups.
OF_ARCHIVE = keys(ModelConfig, TorchModelConfig, DataConfig) - keys(Sampling, Draw)
