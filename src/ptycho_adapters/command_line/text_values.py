"""Texts of a command line as values: read by annotation, and left as text where they fit nothing."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

import numpy as np
from numpy.lib import format as npy

from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.types import choices, members
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_SWITCH: Mapping[str, bool] = MappingProxyType(
    {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
)
_KINDS: Mapping[object, str] = MappingProxyType(
    {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH", PackageGenerator: "PACKAGE:NAME"}
)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NO_VALUE = object()


def read_text(text: str, annotation: object) -> object:
    """Return what a text means under an annotation.

    A text that fits nothing is returned as it is, so that the resolver can say what it expected, with everything else.

    Raises:
        FileNotFoundError: the annotation is an array and there is no such file.
        ScanFileError: the annotation is an array and the file holds none.
    """
    # "none" is a word before it is a text.
    for member in sorted(members(annotation), key=lambda member: member is not NoneType):
        value = _read_member(text, member)
        if value is not _NO_VALUE:
            return value
    return text


def is_switch(annotation: object) -> bool:
    """Tell whether a setting can be turned on and off."""
    return bool in members(annotation)


def placeholder(annotation: object) -> str:
    """Return what stands for a value in the help."""
    words = [str(choice) for choice in choices(annotation)]
    kinds = [_KINDS[member] for member in members(annotation) if member in _KINDS]
    if words and not kinds:
        return "{" + ",".join(words) + "}"
    if get_origin(annotation) is tuple:
        return "A,B,..."
    return "|".join([*kinds, *words]) or "FILE.npy"


def may_be_none(annotation: object) -> bool:
    """Tell whether a setting may be left out on purpose."""
    return NoneType in members(annotation)


def _read_member(text: str, annotation: object) -> object:
    origin = get_origin(annotation)
    if origin is Literal:
        return next((choice for choice in get_args(annotation) if str(choice) == text), _NO_VALUE)
    if origin is tuple:
        return _read_items(text, annotation)
    if origin is np.ndarray:
        return _read_array(Path(text))
    read = _SCALARS.get(annotation)
    return text if read is None else read(text)


def _read_float(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return _NO_VALUE


def _read_items(text: str, annotation: object) -> object:
    member = get_args(annotation)[0]
    # A path may begin and end with anything, and an empty one would be the present folder.
    parts = [part if member is Path else part.strip() for part in text.split(",")] if text.strip() else []
    return tuple(read_text(part, member) for part in parts) if all(parts) else text


def _read_array(path: Path) -> NDArray[np.generic]:
    try:
        with path.open("rb") as stream:
            array: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
    except FileNotFoundError:
        message = f"Array file not found: {path}"
        raise FileNotFoundError(message) from None
    except (ValueError, EOFError, OSError) as error:
        problem = Problem(path="file", expected="an array of numbers (.npy)", found=str(error))
        raise ScanFileError(str(path), [problem]) from None
    return array


_SCALARS: Mapping[object, Callable[[str], object]] = MappingProxyType(
    {
        NoneType: lambda text: None if text.lower() == "none" else _NO_VALUE,
        bool: lambda text: _SWITCH.get(text.lower(), _NO_VALUE),
        int: lambda text: int(text) if _WHOLE.fullmatch(text) else _NO_VALUE,
        float: _read_float,
        Path: Path,
    }
)
