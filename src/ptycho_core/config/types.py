"""Strict reading of plain values against a type annotation: nothing is guessed, an integer may stand for a float."""

from __future__ import annotations

import math
import os
import reprlib
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, Union, get_args, get_origin

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MismatchError(ValueError):
    """A value that is not of the annotated type; the message says what was expected."""


def coerce(value: object, annotation: object) -> object:
    """Return `value` as the annotated type.

    Integers become floats where a float is asked for, text becomes a path, a list becomes a tuple, NumPy scalars become
    Python's. Nothing else changes type: a bool is not a number and text is not parsed.
    Integers have 64 bits, as in TOML.

    Raises:
        MismatchError: the value is not of that type; NaN and infinities are of no type.
    """
    plain: object = value.item() if isinstance(value, np.generic) else value
    origin = get_origin(annotation)
    if origin is Union or origin is UnionType:
        return _member(plain, annotation)
    if origin is Literal:
        return _choice(plain, annotation)
    if origin is tuple:
        return _items(plain, annotation)
    if origin is np.ndarray:
        return _array(plain)
    return _scalar(plain, annotation)


def describe(annotation: object) -> str:
    """Say in words what `coerce` accepts."""
    origin = get_origin(annotation)
    if origin is Union or origin is UnionType:
        return " or ".join(describe(member) for member in get_args(annotation))
    if origin is Literal:
        names = ", ".join(repr(choice) for choice in get_args(annotation))
        return f"one of {names}" if len(get_args(annotation)) > 1 else names
    if origin is tuple:
        items = get_args(annotation)
        size = "a list" if items[-1] is Ellipsis else f"a list of {len(items)}"
        return f"{size}, each {describe(items[0])}"
    if origin is np.ndarray:
        return "an array of finite numbers"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def choices(annotation: object) -> tuple[object, ...]:
    """Return the values that the literals in the annotation allow; empty when it holds none."""
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin is Union or origin is UnionType:
        return tuple(choice for member in get_args(annotation) for choice in choices(member))
    return ()


def shown(value: object) -> str:
    """Return a short text for a value in an error message."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python spells out no integer of thousands of digits
        return f"{type(value).__name__} with too many digits to show"


_WORDS: dict[object, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "text",
    Path: "a path",
    NoneType: "none",
}


def _member(value: object, annotation: object) -> object:
    for member in get_args(annotation):
        try:
            return coerce(value, member)
        except MismatchError:
            continue
    raise MismatchError(describe(annotation))


def _choice(value: object, annotation: object) -> object:
    for choice in get_args(annotation):
        # `True == 1`, so the type has to agree too.
        if isinstance(value, type(choice)) and isinstance(value, bool) == isinstance(choice, bool) and value == choice:
            return choice
    raise MismatchError(describe(annotation))


def _items(value: object, annotation: object) -> tuple[object, ...]:
    members = get_args(annotation)
    if not isinstance(value, list | tuple):
        raise MismatchError(describe(annotation))
    if members[-1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(members) != len(value):
        raise MismatchError(describe(annotation))
    try:
        return tuple(coerce(item, member) for item, member in zip(value, members, strict=True))
    except MismatchError:
        raise MismatchError(describe(annotation)) from None


def _array(value: object) -> NDArray[np.float32]:
    # Tensors of other libraries offer `__array__`, so they are read without being imported.
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise MismatchError("an array of finite numbers") from None
    if array.dtype.kind not in "iuf" or array.ndim == 0 or not np.isfinite(array).all():
        raise MismatchError("an array of finite numbers")
    result = array.astype(np.float32)
    result.setflags(write=False)
    return result


def _scalar(value: object, annotation: object) -> object:
    result: object = _MISSING
    if annotation is float:
        result = _finite(value)
    elif annotation is int and isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        result = int(value)
    elif annotation is str and isinstance(value, str):
        result = str(value)
    elif annotation is Path and isinstance(value, str | os.PathLike):
        result = _path(value)
    elif isinstance(annotation, type) and annotation not in {int, str, Path} and isinstance(value, annotation):
        result = value
    if result is _MISSING:
        raise MismatchError(describe(annotation))
    return result


def _finite(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise MismatchError("a finite number")


def _path(value: str | os.PathLike[str]) -> Path:
    text: object = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:
        raise MismatchError("a path")
    return Path(text)


_MISSING = object()
