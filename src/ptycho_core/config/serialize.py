"""Plain values as settings and records, and back: one strict converter for constructors, layers, files and archives.

Integers become floats where a float is asked for, text becomes a path, a list becomes a tuple, NumPy scalars become
Python's. Nothing else changes type: a bool is not a number and text is not parsed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard, TypeVar, Union, cast, get_args, get_origin

import attrs
import numpy as np
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn_from_attrs, override

from ptycho_core.config.knob import BARE, Knob, UntranslatableError, codec_of, entry_of
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.types import describe, shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from numpy.typing import NDArray


R = TypeVar("R", bound="attrs.AttrsInstance")

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
_Hook: TypeAlias = Callable[[Any, Any], object]


def unstructure(record: attrs.AttrsInstance) -> dict[str, JsonValue]:
    """Return a record's fields as plain JSON values."""
    values: dict[str, JsonValue] = _CONVERTER.unstructure(record)
    return values


def json_value(value: object) -> JsonValue:
    """Return a setting's value as plain JSON.

    Raises:
        TypeError: it has no place there.
    """
    plain: JsonValue = _CONVERTER.unstructure(value)
    return plain


def structure(record: type[R], data: object, path: str | None = None) -> R:
    """Return the record that `unstructure` wrote down. Nothing is filled in, left out or converted in spirit.

    Args:
        record: the class.
        data: a mapping with exactly the record's fields; a record of the class stands for itself.
        path: where the data stand, for messages; the record's name if not given.

    Raises:
        ConfigError: a field is missing, unknown or not valid; all of them at once.
    """
    where = record.__name__ if path is None else path
    try:
        return _CONVERTER.structure(data, record)
    except (ClassValidationError, ConfigError) as error:
        raise ConfigError(where, list(_problems(error, where))) from None


def read_field(field: attrs.Attribute[object], given: object, path: str) -> tuple[object, list[Problem]]:
    """Return what a record's field holds of a value, in its type and spelling, with what is wrong with it."""
    entry = entry_of(field) or BARE
    codec = codec_of(field, entry)
    try:
        spelled = codec.encode(codec.decode(given))
    except UntranslatableError:
        spelled = given
    return read_setting(entry.knob, spelled, field.type, path)


def read_setting(knob: Knob, value: object, annotation: object, path: str) -> tuple[object, list[Problem]]:
    """Return a setting's value as the annotated type together with everything that is wrong with it."""
    try:
        result = coerce(value, annotation)
    except MismatchError as error:
        fix = f"{knob.complaint} {shown(value)}" if knob.complaint else ""
        return value, [Problem(path=path, expected=str(error), found=shown(value), fix=fix)]
    broken = [] if result is None else [rule for rule in knob.rules if not rule.holds(result)]
    return result, [Problem(path=path, expected=rule.expected, found=shown(value)) for rule in broken]


class MismatchError(ValueError):
    """A value that is not of the annotated type; the message says what was expected."""


def coerce(value: object, annotation: object) -> object:
    """Return `value` as the annotated type. Integers have 64 bits, as in TOML; NaN and infinities are of no type.

    Raises:
        MismatchError: the value is not of that type.
    """
    plain: object = value.item() if isinstance(value, np.generic) else value
    with suppress(ValueError):
        # Tables are for files: no setting is one, and a program passes a record itself.
        if not isinstance(plain, Mapping):
            return _CONVERTER.structure(plain, cast("type[object]", annotation))
    raise MismatchError(describe(annotation))


def _problems(error: Exception, path: str) -> Iterator[Problem]:
    """Yield what is wrong, each at its path: what the converter found and what the records said."""
    match error:
        case ClassValidationError():
            located, others = error.group_exceptions()
            for inner in others:
                yield from _problems(inner, path)
            for inner, note in located:
                yield from _problems(inner, _under(path, note.name))
        case ForbiddenExtraKeysError():
            for name in sorted(error.extra_fields, key=str):
                yield Problem(path=_under(path, name), expected="a known field", found="an unknown one")
        case KeyError():
            yield Problem(path=path, expected="a value", found="nothing")
        case ConfigError():
            yield from (attrs.evolve(problem, path=_under(path, problem.path)) for problem in error.problems)
        case _:
            raise error


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _strict(fits: Callable[[object], bool], value: object, kind: Callable[[object], object]) -> object:
    """Return a value that fits as what was asked for, which may be a word of an enumeration for a text."""
    if not fits(value):
        raise MismatchError
    return None if value is None else kind(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_path(value: object) -> bool:
    text: object = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    return isinstance(text, str) and "\0" not in text


def _member(value: object, annotation: object) -> object:
    for member in get_args(annotation):
        with suppress(MismatchError):
            return coerce(value, member)
    raise MismatchError


def _choice(value: object, annotation: object) -> object:
    for choice in get_args(annotation):
        # `True == 1`, so the type has to agree too.
        if isinstance(value, type(choice)) and isinstance(value, bool) == isinstance(choice, bool) and value == choice:
            return choice
    raise MismatchError


def _items(value: object, annotation: object) -> tuple[object, ...]:
    members = get_args(annotation)
    if not isinstance(value, list | tuple):
        raise MismatchError
    if members[-1] is Ellipsis:
        members = members[:1] * len(value)
    return tuple(coerce(item, member) for item, member in zip(value, members, strict=True))


def _array(value: object, _: object) -> NDArray[np.float32]:
    # Tensors of other libraries offer `__array__`, so they are read without being imported.
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise MismatchError from None
    if array.dtype.kind not in "iuf" or array.ndim == 0:
        raise MismatchError
    # A number too large for float32 becomes infinite here, and is refused as an infinite one is.
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(np.float32)
    if not np.isfinite(result).all():
        raise MismatchError
    result.setflags(write=False)
    return result


def _record_hook(record: type[attrs.AttrsInstance], converter: Converter) -> _Hook:
    # A field without a default has to be there.
    fields = [field.evolve(default=attrs.NOTHING) for field in attrs.fields(record)]
    own: dict[str, Any] = {
        field.name: override(struct_hook=partial(_field, field)) for field in fields if not _is_record(field.type)
    }
    return partial(_record, make_dict_structure_fn_from_attrs(fields, record, converter, **own))


def _record(read: _Hook, data: object, kind: type) -> object:
    if isinstance(data, kind):
        return data
    if not isinstance(data, Mapping):
        raise ConfigError("", [Problem(path="", expected="a table of settings", found=shown(data))])
    return read(data, kind)


def _field(field: attrs.Attribute[object], given: object, _: object) -> object:
    value, problems = read_field(field, given, "")
    raise_if_any(ConfigError, field.name, problems)
    return value


def _is_record(annotation: object) -> TypeGuard[type[attrs.AttrsInstance]]:
    return isinstance(annotation, type) and attrs.has(annotation)


def _json_scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    message = f"{type(value).__name__} has no place in JSON"
    raise TypeError(message)


def _strict_converter() -> Converter:
    converter = Converter(
        forbid_extra_keys=True,
        unstruct_collection_overrides={tuple: list},
        unstructure_fallback_factory=lambda _: _json_scalar,
    )
    scalars: Mapping[type, Callable[[object], bool]] = {
        bool: lambda value: isinstance(value, bool),
        int: lambda value: _is_number(value) and isinstance(value, int) and value.bit_length() < 64,
        # No infinity and no NaN is below, nor an integer that is too large.
        float: lambda value: _is_number(value) and abs(value) <= sys.float_info.max,
        str: lambda value: isinstance(value, str),
        PackageGenerator: PackageGenerator.fits,
        Path: _is_path,
        NoneType: lambda value: value is None,
    }
    generics: Mapping[object, _Hook] = {
        Union: _member,
        UnionType: _member,
        Literal: _choice,
        tuple: _items,
        np.ndarray: _array,
    }
    for kind, fits in scalars.items():
        converter.register_structure_hook(kind, partial(_strict, fits))
    converter.register_structure_hook_factory(
        lambda kind: get_origin(kind) in generics, lambda kind: generics[get_origin(kind)]
    )
    converter.register_structure_hook_factory(_is_record, _record_hook)
    converter.register_unstructure_hook_func(lambda kind: np.ndarray in {kind, get_origin(kind)}, np.ndarray.tolist)
    return converter


_CONVERTER = _strict_converter()
