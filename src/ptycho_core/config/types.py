"""What the annotated types of settings are called, and values as they appear in messages."""

from __future__ import annotations

import reprlib
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

import numpy as np

from ptycho_core.config.package_generator import PackageGenerator


def members(annotation: object) -> tuple[object, ...]:
    """Return the types that an annotation offers."""
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def describe(annotation: object) -> str:
    """Say in words what is read as the annotated type."""
    return " or ".join(map(_word, members(annotation)))


def choices(annotation: object) -> tuple[object, ...]:
    """Return the values that the vocabularies in the annotation allow; empty when it holds none."""
    return tuple(choice for member in members(annotation) for choice in _vocabulary(member))


def shown(value: object) -> str:
    """Return a short text for a value in an error message."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python spells out no integer of thousands of digits
        return f"{type(value).__name__} with too many digits to show"


def _vocabulary(annotation: object) -> tuple[object, ...]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(member.value for member in annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _word(annotation: object) -> str:
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        size = "a list" if items[-1] is Ellipsis else f"a list of {len(items)}"
        return f"{size}, each {describe(items[0])}"
    if get_origin(annotation) is np.ndarray:
        return "an array of finite numbers"
    words = [repr(choice) for choice in _vocabulary(annotation)]
    if words:
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


_WORDS: dict[object, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "text",
    Path: "a path",
    NoneType: "none",
    PackageGenerator: PackageGenerator.form(),
}
