"""Texts of an HDF5 file: attributes and datasets, of fixed length or in a heap, which is looked at first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.files.hdf5.attributes import longest_claim
from ptycho_adapters.files.hdf5.heaps import heaps_are_sound
from ptycho_adapters.files.hdf5.members import kind_of, read_long_text
from ptycho_adapters.files.hdf5.nodes import DAMAGE, Node, damaged, find_node, is_group
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    import h5py

_LONGEST_TEXT = 1 << 20
_MOST_TEXTS = 16


def read_text(node: Node, name: str) -> str | Problem | None:
    """Read an attribute that is one text.

    Returns:
        The text; None when there is no such attribute; a problem for anything else.
    """
    found = _texts(node, name, most=1, wanted="one text")
    return found[0] if isinstance(found, list) else found


def read_texts(node: Node, name: str) -> list[str] | Problem | None:
    """Read an attribute that is a list of a few texts, or one text.

    Returns:
        The texts; None when there is no such attribute; a problem for anything else.
    """
    return _texts(node, name, most=_MOST_TEXTS, wanted="some texts")


def _texts(node: Node, name: str, *, most: int, wanted: str) -> list[str] | Problem | None:
    """Read the texts of an attribute.

    A text of variable length lies in a heap, and a damaged heap keeps the HDF5 library busy for ever, so the file's
    heaps are looked at first, and the length that the texts claim.
    """
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    try:
        if name not in node.attrs:
            return None
        identifier = node.attrs.get_id(name)
        shape, dtype = identifier.shape, identifier.dtype
        in_heap = h5py.check_string_dtype(dtype) is not None and dtype.kind == "O"
        number = math.prod(shape)
        if not 0 < number <= most or not (in_heap or dtype.kind == "S") or dtype.itemsize > _LONGEST_TEXT:
            return Problem(path=name, expected=wanted, found=f"shape {shape} of {dtype}")
        path = Path(node.file.filename)
        if in_heap and not heaps_are_sound(path):
            return Problem(path=name, expected=wanted, found="a damaged heap of texts")
        if in_heap and (longest_claim(path, name, number) or 0) > _LONGEST_TEXT:
            return Problem(path=name, expected=f"texts of at most {_LONGEST_TEXT} bytes", found="a longer one")
        values = np.asarray(node.attrs[name]).ravel().tolist()
        return [value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    except DAMAGE as error:
        return damaged(name, error, wanted)


def read_text_dataset(file: h5py.Group, name: str) -> str | Problem | None:
    """Read a dataset that is one text, of fixed or of variable length.

    A text of variable length is its length and its place in a heap; both are looked at before the HDF5 library does.

    Returns:
        The text; None when there is none; a problem for anything else.
    """
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    node = find_node(file, name)
    if node is None or isinstance(node, Problem):
        return node
    try:
        if is_group(node) or h5py.check_string_dtype(node.dtype) is None or node.dtype.kind != "O":
            return read_long_text(file, name)
        offset = node.id.get_offset()
        if node.shape != () or offset is None or node.external or node.is_virtual:
            return Problem(path=name, expected="one text", found=kind_of(node))
        path = Path(node.file.filename)
        with path.open("rb") as stream:
            stream.seek(offset)
            length = int.from_bytes(stream.read(4), "little")
        if length > _LONGEST_TEXT or not heaps_are_sound(path):
            return Problem(path=name, expected="a text", found="a damaged heap of texts")
        value = node[()]
        return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    except DAMAGE as error:
        return damaged(name, error, "a text")
