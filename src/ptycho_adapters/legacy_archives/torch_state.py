"""Files of `torch.save` as arrays, without torch: a zip of a pickle and of the bytes that it refers to."""

from __future__ import annotations

import io
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.legacy_archives.pickled_values import PickledArray, empty_dict, handed_on, plain, shape_of
from ptycho_adapters.legacy_archives.plain_pickle import (
    Arguments,
    RefusedError,
    StandIn,
    name_of,
    read_member,
    read_pickle,
)
from ptycho_adapters.legacy_archives.zip_members import opened
from ptycho_core.errors import ArchiveError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_adapters.legacy_archives.zip_members import Members
    from ptycho_core.any_array import AnyArray

_PICKLE, _BYTE_ORDER = "data.pkl", "byteorder"
_LARGEST_PICKLE = 1 << 24
_STORAGES: Mapping[str, str] = MappingProxyType(
    {
        f"torch.{kind}Storage": dtype
        for kind, dtype in {
            "Float": "<f4",
            "Double": "<f8",
            "Half": "<f2",
            "Long": "<i8",
            "Int": "<i4",
            "Short": "<i2",
            "Char": "<i1",
            "Byte": "<u1",
            "Bool": "?",
            "ComplexFloat": "<c8",
            "ComplexDouble": "<c16",
        }.items()
    }
)
_IDENTIFIER, _REBUILD = 5, 6


class _Storage:
    """The numbers that tensors are views of."""

    def __init__(self, values: AnyArray) -> None:
        self.values = values


def read_torch_file(content: bytes, subject: str) -> Mapping[str, object]:
    """Read what `torch.save` made of a dict.

    Args:
        content: the file.
        subject: what it is called in errors.

    Returns:
        Arrays, numbers, texts and containers by name.

    Raises:
        ArchiveError: the file is damaged or holds anything else.
    """
    with opened(io.BytesIO(content), subject) as members:
        folder = _folder(members)
        if f"{folder}/{_BYTE_ORDER}" in members.names and members.read(f"{folder}/{_BYTE_ORDER}", 16) != b"little":
            problem = Problem(path=_BYTE_ORDER, expected="little", found="another order of bytes")
            raise ArchiveError(subject, [problem])

        def read() -> Mapping[str, object]:
            pickled = members.read(f"{folder}/{_PICKLE}", _LARGEST_PICKLE)
            found = read_pickle(pickled, _STAND_INS, _storages(members, folder))
            if not isinstance(found, dict):
                raise RefusedError(f"a {type(found).__name__}, not a dict")
            return {str(key): plain(value) for key, value in found.items()}

        return read_member(subject, _PICKLE, read)


def _folder(members: Members) -> str:
    folders = [name.removesuffix(f"/{_PICKLE}") for name in members.names if name.endswith(f"/{_PICKLE}")]
    if len(folders) != 1:
        problem = Problem(path=_PICKLE, expected="one such member", found=str(len(folders)))
        raise ArchiveError(members.subject, [problem])
    return folders[0]


def _storages(members: Members, folder: str) -> StandIn:
    """Give the reader of what a pickle refers to; each member is read once."""
    known: dict[str, _Storage] = {}

    def storage(identifier: Arguments) -> object:
        if len(identifier) != _IDENTIFIER or identifier[0] != "storage" or not isinstance(identifier[2], str):
            raise RefusedError("a reference to something else than numbers")
        key, count = identifier[2], identifier[4]
        dtype = np.dtype(_STORAGES.get(name_of(identifier[1]), "V"))
        if dtype.kind == "V" or not isinstance(count, int):
            raise RefusedError(f"a reference to a {name_of(identifier[1])}")
        if key not in known:
            content = members.read(f"{folder}/data/{key}")
            if len(content) != count * dtype.itemsize:
                raise RefusedError(f"{count} numbers in {len(content)} bytes")
            known[key] = _Storage(np.frombuffer(content, dtype))
        if known[key].values.dtype != dtype:
            raise RefusedError("numbers of two types in one place")
        return known[key]

    return storage


def _tensor(arguments: Arguments) -> object:
    if len(arguments) < _REBUILD or not isinstance(arguments[0], _Storage):
        raise RefusedError("a tensor without numbers")
    values, start = arguments[0].values, arguments[1]
    sizes, strides = shape_of(arguments[2]), shape_of(arguments[3])
    if not isinstance(start, int) or start < 0 or len(sizes) != len(strides):
        raise RefusedError("a tensor of another kind")
    count = int(np.prod(sizes, dtype=object)) if sizes else 1
    last = start + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if count > len(values) or (count and last >= len(values)):
        raise RefusedError(f"a tensor of shape {sizes} out of {len(values)} numbers")
    if not count:
        return PickledArray(np.empty(sizes, values.dtype))
    # A view, not a copy: a pickle may ask for the same numbers as often as it likes.
    steps = [stride * values.itemsize for stride in strides]
    return PickledArray(np.lib.stride_tricks.as_strided(values[start:], sizes, steps, writeable=False))


def _parameter(arguments: Arguments) -> object:
    if not arguments or not isinstance(arguments[0], PickledArray):
        raise RefusedError("a parameter without numbers")
    return arguments[0]


_STAND_INS: Mapping[str, StandIn] = MappingProxyType(
    {
        "collections.OrderedDict": empty_dict,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        **dict.fromkeys(_STORAGES, handed_on),
    }
)
