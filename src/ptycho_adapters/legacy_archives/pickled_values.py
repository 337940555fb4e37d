"""Stand-ins for what pickled parameters name: NumPy's arrays and numbers, tensors, paths."""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.legacy_archives.plain_pickle import (
    Arguments,
    Buildable,
    RefusedError,
    StandIn,
    name_of,
    read_member,
    read_pickle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core.any_array import AnyArray

_TYPE = re.compile(r"[|<>=]?([biuf][1248]|f16|c8|c16)\Z")
_TYPE_STATE, _ARRAY_STATE = 8, 5
_MOST_AXES = 8
_ARRAY = "numpy.ndarray"


class PickledType(Buildable):
    """A type of numbers."""

    def __init__(self, arguments: Arguments) -> None:
        code = arguments[0] if arguments else None
        if not isinstance(code, str) or not _TYPE.match(code):
            raise RefusedError(f"an array of {str(code)[:20] if isinstance(code, str) else type(code).__name__}")
        self.dtype = np.dtype(code)

    def take_state(self, state: object) -> None:
        """Take the order of bytes."""
        order = state[1] if isinstance(state, tuple) and len(state) >= _TYPE_STATE else None
        if not isinstance(order, str) or order not in {"<", ">", "=", "|"}:
            raise RefusedError("a type of numbers with fields")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type] # one of four letters


class PickledArray(Buildable):
    """An array, which a pickle makes empty and then fills."""

    def __init__(self, values: AnyArray | None = None) -> None:
        self._values = values

    def take_state(self, state: object) -> None:
        """Take shape, type and bytes."""
        if not isinstance(state, tuple) or len(state) != _ARRAY_STATE:
            raise RefusedError("an array of another kind")
        _, shape, dtype, fortran, content = state
        self._values = _array(content, dtype, shape, order="F" if fortran is True else "C")

    @property
    def values(self) -> AnyArray:
        """The array.

        Raises:
            RefusedError: it was never filled.
        """
        if self._values is None:
            raise RefusedError("an array without content")
        return self._values


def read_parameters(content: bytes, subject: str, name: str) -> Mapping[str, object]:
    """Read a pickled dict of parameters.

    Args:
        content: the pickle.
        subject: archive that it belongs to.
        name: of the member.

    Returns:
        Numbers, texts, containers and arrays by name.

    Raises:
        ArchiveError: it is no such dict, or names anything that is not of this kind; nothing has been called then.
    """

    def read() -> Mapping[str, object]:
        found = read_pickle(content, _STAND_INS)
        if not isinstance(found, dict):
            raise RefusedError(f"a {type(found).__name__}, not a dict")
        return {str(key): plain(value) for key, value in found.items()}

    return read_member(subject, name, read)


def plain(value: object) -> object:
    """Give the array that a value stands for, or the value itself.

    Raises:
        RefusedError: it is neither plain nor an array.
    """
    if isinstance(value, PickledArray):
        return value.values
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray | tuple | list | dict):
        return value
    raise RefusedError(f"a {type(value).__name__} in place of a value")


def _array(content: object, dtype: object, shape: object, *, order: str) -> AnyArray:
    """Make an array of bytes; it holds as many as its shape and type say."""
    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, PickledType):
        raise RefusedError("an array of objects")
    sizes = shape_of(shape)
    if math.prod(sizes) * dtype.dtype.itemsize != len(content):
        raise RefusedError(f"an array of shape {sizes} in {len(content)} bytes")
    flat: AnyArray = np.frombuffer(content, dtype.dtype)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def shape_of(value: object) -> tuple[int, ...]:
    """Check a shape.

    Raises:
        RefusedError: it is no tuple of few sizes.
    """
    if not isinstance(value, tuple) or len(value) > _MOST_AXES:
        raise RefusedError("an array without a shape")
    sizes = tuple(size for size in value if isinstance(size, int) and not isinstance(size, bool) and size >= 0)
    if len(sizes) != len(value):
        raise RefusedError("an array without a shape")
    return sizes


def _empty_array(arguments: Arguments) -> object:
    del arguments  # the class, a size of none and a letter
    return PickledArray()


def _filled_array(arguments: Arguments) -> object:
    """Stand in for dill's own way: function, its arguments, state, and a dict that has to be empty."""
    if len(arguments) not in (3, 4) or (len(arguments) == 4 and arguments[3]):
        raise RefusedError("an array with attributes")
    if name_of(arguments[0]) not in _EMPTY_ARRAYS:
        raise RefusedError(f"{name_of(arguments[0])!r} in place of an array")
    array = PickledArray()
    array.take_state(arguments[2])
    return array


def _array_of_buffer(arguments: Arguments) -> object:
    if len(arguments) != 4 or arguments[3] not in ("C", "F"):
        raise RefusedError("an array of another kind")
    content, dtype, shape, order = arguments
    return PickledArray(_array(content, dtype, shape, order=str(order)))


def _number(arguments: Arguments) -> object:
    if len(arguments) != 2:
        raise RefusedError("a number of another kind")
    value: object = _array(arguments[1], arguments[0], (), order="C").item()
    return value


def _tensor(arguments: Arguments) -> object:
    if not arguments or not isinstance(arguments[0], PickledArray):
        raise RefusedError("a tensor without an array")
    return arguments[0]


def empty_dict(arguments: Arguments) -> object:
    """Stand in for an ordered dict, which is filled afterwards."""
    if arguments:
        raise RefusedError("an ordered dict of another kind")
    return {}


def _path(arguments: Arguments) -> object:
    if not all(isinstance(part, str) for part in arguments):
        raise RefusedError("a path of something else than texts")
    return "/".join(map(str, arguments))


def handed_on(arguments: Arguments) -> object:
    """Stand in for what a pickle may name and not call."""
    del arguments
    raise RefusedError("a call of a class")


_NUMPY_1_AND_2 = ("numpy.core", "numpy._core")
_EMPTY_ARRAYS = frozenset(f"{home}.multiarray._reconstruct" for home in _NUMPY_1_AND_2)
_STAND_INS: Mapping[str, StandIn] = MappingProxyType(
    {
        _ARRAY: handed_on,
        "numpy.dtype": PickledType,
        "collections.OrderedDict": empty_dict,
        "dill._dill._create_array": _filled_array,
        "tensorflow.python.framework.ops.convert_to_tensor": _tensor,
        **dict.fromkeys(_EMPTY_ARRAYS, _empty_array),
        **{f"{home}.multiarray.scalar": _number for home in _NUMPY_1_AND_2},
        **{f"{home}.numeric._frombuffer": _array_of_buffer for home in _NUMPY_1_AND_2},
        **{f"pathlib.{kind}Path": _path for kind in ("Posix", "Windows", "PurePosix", "PureWindows", "")},
    }
)
