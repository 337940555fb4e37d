"""The groups and datasets of an HDF5 file, found by following its links with suspicion."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ptycho_adapters.files.hdf5.elsewhere import HERE, ElsewhereError, linked_file
from ptycho_adapters.files.reading import ArrayFacts
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py

Node: TypeAlias = "h5py.Group | h5py.Dataset"
# Everything that h5py raises on damaged input.
DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
# What libhdf5 says of a file that is locked, or marked as open for writing (SWMR).
_BEING_WRITTEN = ("unable to lock file", "already open for write", "already open for swmr")
_MOST_NODES = 4096
_MOST_LEVELS = 12
_MOST_HOPS = 16
_NUMERIC_KINDS = "biufc"

FOLLOW = "copy it into one file, or allow it with --follow-links"


def open_h5(path: Path) -> h5py.File | Problem:
    """Open an HDF5 file for reading, or say what keeps it from being opened."""
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    try:
        return h5py.File(path, "r")
    except DAMAGE as error:
        if any(word in str(error).lower() for word in _BEING_WRITTEN):
            found, fix = "one that is open for writing, or was when its program ended", "wait until it is closed"
            return Problem(path="file", expected="a file that nobody writes", found=found, fix=fix)
        return damaged("file", error, "a complete HDF5 file")


def list_arrays(file: h5py.File, kinds: str = _NUMERIC_KINDS) -> tuple[dict[str, ArrayFacts], list[Problem]]:
    """List the datasets of numbers by path, soft links within the file included, and what could not be looked at.

    Args:
        file: the file.
        kinds: NumPy's letters of what is listed.
    """
    found: dict[str, ArrayFacts] = {}
    problems: list[Problem] = []
    queue: list[tuple[str, h5py.Group, int]] = [("", file, 0)]
    n_nodes = 0
    while queue:
        prefix, group, level = queue.pop()
        for name, node in _children(prefix, group, problems):
            n_nodes += 1
            if n_nodes > _MOST_NODES:
                problems.append(Problem(path="file", expected=f"at most {_MOST_NODES} objects", found="more"))
                return found, problems
            facts = array_facts(node, kinds)
            if facts is not None:
                found[name] = facts
            elif is_group(node) and level < _MOST_LEVELS:
                queue.append((f"{name}/", node, level + 1))
    return found, problems


def _children(prefix: str, group: h5py.Group, problems: list[Problem]) -> Iterator[tuple[str, Node]]:
    try:
        names = list(group)
    except DAMAGE as error:
        problems.append(damaged(prefix or "file", error, "a readable group"))
        return
    for name in names:
        try:
            node = _step(group, name, _MOST_HOPS)
        except ElsewhereError:
            continue
        except DAMAGE as error:
            problems.append(damaged(f"{prefix}{name}", error, "a readable object"))
            continue
        if node is not None:
            yield f"{prefix}{name}", node


def names_in(group: h5py.Group) -> list[str]:
    """List what is in a group; nothing for a damaged one."""
    try:
        return [str(name) for name in group]
    except DAMAGE:
        return []


def find_node(file: h5py.Group, name: str) -> Node | Problem | None:
    """Follow a path through hard links, soft links, and links to files that they may lead to.

    Returns:
        The group or dataset; None when there is none; a problem for damage or a link that may not be followed.
    """
    try:
        return _walk(file, name, _MOST_HOPS)
    except ElsewhereError as error:
        return Problem(path=name, expected=HERE, found=str(error), fix=FOLLOW)
    except DAMAGE as error:
        return damaged(name, error, "a readable object")


def _walk(group: h5py.Group, name: str, hops: int) -> Node | None:
    node: Node | None = group["/"] if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        if part == ".":
            continue
        if node is None or not is_group(node):
            return None
        node = _step(node, part, hops)
    return node


def _step(group: h5py.Group, part: str, hops: int) -> Node | None:
    """Take one step down, following links by hand so that none leads where it may not."""
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    link = group.get(part, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        # What is found keeps its file open.
        return _walk(h5py.File(linked_file(group.file.filename, link.filename), "r"), link.path, _fewer(hops))
    if isinstance(link, h5py.SoftLink):
        return _walk(group, link.path, _fewer(hops))
    node = group[part]
    return node if isinstance(node, h5py.Group | h5py.Dataset) else None


def _fewer(hops: int) -> int:
    if hops == 0:
        msg = "links that lead nowhere"
        raise ValueError(msg)
    return hops - 1


def is_group(node: Node) -> bool:
    """Tell a group from a dataset."""
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    return isinstance(node, h5py.Group)


def array_facts(node: Node, kinds: str = _NUMERIC_KINDS) -> ArrayFacts | None:
    """Give shape and dtype of a dataset of numbers, or of other kinds; None for anything else."""
    if is_group(node):
        return None
    try:
        shape, dtype = node.shape, node.dtype
    except DAMAGE:
        # A type that NumPy has no equal of.
        return None
    return None if shape is None or dtype.kind not in kinds else ArrayFacts(shape=tuple(shape), dtype=dtype)


def damaged(path: str, error: BaseException, expected: str) -> Problem:
    """Turn what the HDF5 library says into a problem."""
    text = " ".join(str(error).split()) or type(error).__name__
    return Problem(path=path, expected=expected, found=f"damaged data ({text})")
