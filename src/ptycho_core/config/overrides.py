"""Layers of settings and their resolution: the highest layer that set a key wins, and every value knows its layer."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import attrs

from ptycho_core.callers import warn_caller
from ptycho_core.config.table import CANONICAL, DEFAULTS
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from ptycho_core.config.table import Table

V_co = TypeVar("V_co", covariant=True)


class _Unset(enum.Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "Unset"

    def __bool__(self) -> bool:
        return False


Unset = _Unset.UNSET
"""A setting that its layer leaves open, as opposed to None, which is a value."""


class Layer(StrEnum):
    """Sources of settings, highest first."""

    EXPLICIT = "explicit"
    EXECUTION = "execution"
    CLI = "cli"
    FILE = "file"
    ARCHIVE = "archive"
    SCAN = "scan"
    COMMAND = "command"
    BACKEND = "backend"
    TORCH_DEFAULT = "torch_default"
    CANONICAL_DEFAULT = "canonical_default"

    @property
    def chosen(self) -> bool:
        """Whether a person chose what this layer holds, as opposed to a measurement or a default."""
        return self in {Layer.EXPLICIT, Layer.EXECUTION, Layer.CLI, Layer.FILE}

    @property
    def default(self) -> bool:
        """Whether this layer holds what nobody set."""
        return self in {Layer.COMMAND, Layer.BACKEND, Layer.TORCH_DEFAULT, Layer.CANONICAL_DEFAULT}


class Settings(Mapping[str, V_co]):
    """An immutable mapping over keys that can be asked by any alias of a key."""

    def __init__(self, table: Table, values: Mapping[str, V_co]) -> None:
        self._keys = dict(table.names)
        self._values = dict(values)

    def __getitem__(self, name: str) -> V_co:
        return self._values[self._keys.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self._values))


@attrs.frozen(kw_only=True, eq=False)
class Resolution:
    """One value per key.

    Attributes:
        values: the effective values in canonical spelling.
        provenance: the layer that each one comes from.
    """

    values: Settings[object]
    provenance: Settings[Layer]

    @property
    def overrides_applied(self) -> Mapping[str, object]:
        """The part of `values` that somebody chose."""
        return MappingProxyType({key: self.values[key] for key, layer in self.provenance.items() if layer.chosen})


def resolve(layers: Mapping[Layer, Mapping[str, object]], table: Table) -> Resolution:
    """Merge layers of settings over the defaults of the table's records.

    Names may be keys or aliases. The order of the mappings means nothing; `Unset` values count as absent. The arguments
    are not changed.

    Raises:
        ConfigError: an unknown name, a value that is not valid, or two spellings of one key in one layer that disagree;
            all of them, whatever their layer, with paths such as ``explicit.batch_size``.

    Warns:
        DeprecationWarning: a deprecated alias is used.
    """
    problems: list[Problem] = []
    resolution = merge(layers, table, problems)
    raise_if_any(ConfigError, "settings", problems)
    return resolution


def merge(layers: Mapping[Layer, Mapping[str, object]], table: Table, problems: list[Problem]) -> Resolution:
    """Do what `resolve` does, but add the problems to a list; the result leaves out what is wrong."""
    values: dict[str, object] = {}
    provenance: dict[str, Layer] = {}
    defaults = _default_layers(table)
    for layer in Layer:
        if layer in defaults:
            said = defaults[layer]
        else:
            given = layers.get(layer, {})
            # What a file says about itself matters only where nobody said otherwise.
            heard = given if layer.chosen else {n: v for n, v in given.items() if table.key(n) not in values}
            said = read_names(heard, table, str(layer), problems)
        values = said | values
        provenance = dict.fromkeys(said, layer) | provenance
    return Resolution(values=Settings(table, values), provenance=Settings(table, provenance))


def _default_layers(table: Table) -> dict[Layer, dict[str, object]]:
    """Return the default layers; where records of one family differ, the first one of the table speaks."""
    # What a backend puts in the place of a default is known once all layers are merged.
    layers: dict[Layer, dict[str, object]] = {
        Layer.BACKEND: {},
        Layer.TORCH_DEFAULT: {},
        Layer.CANONICAL_DEFAULT: {},
    }
    for record in table.records:
        family = layers[Layer.CANONICAL_DEFAULT if record in CANONICAL else Layer.TORCH_DEFAULT]
        for key, value in DEFAULTS[record].items():
            if key in table:
                family.setdefault(key, value)
    return layers


def read_names(given: Mapping[str, object], table: Table, source: str, problems: list[Problem]) -> dict[str, object]:
    """Return what one source sets, by key and in canonical spelling; what is wrong with it joins the problems."""
    values: dict[str, object] = {}
    speakers: dict[str, str] = {}
    # The key's own name comes before its aliases, since an alias may say less than the key does.
    for name in sorted(given, key=lambda name: (table.key(name) != name, str(name))):
        if given[name] is Unset:
            continue
        path = f"{source}.{name}"
        key = table.key(name)
        if key is None:
            problems.append(table.unknown(name, path))
            continue
        value, found = table.translate(name, given[name], path)
        problems.extend(found)
        if found:
            continue
        _warn_if_deprecated(name, key, table)
        if key not in values:
            values[key], speakers[key] = value, name
        elif table.spelled(name, value) != table.spelled(name, values[key]):
            other = speakers[key]
            expected = f"the same as {other}={shown(given[other])}, another name of {key}"
            problems.append(Problem(path=path, expected=expected, found=shown(given[name]), fix="give one of them"))
    return values


def says(given: Mapping[str, object], key: str, table: Table) -> bool:
    """Tell whether one source sets a key, under whatever name, validly or not."""
    return any(table.key(name) == key and value is not Unset for name, value in given.items())


def _warn_if_deprecated(name: str, key: str, table: Table) -> None:
    if any(alias.name == name and alias.deprecated for alias in table[key].knob.aliases):
        warn_caller(f"{name} is deprecated, use {key}", DeprecationWarning)
