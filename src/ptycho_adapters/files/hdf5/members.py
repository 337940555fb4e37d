"""Arrays, numbers and texts of an HDF5 file: nothing allocated that the file cannot fill, no other file opened."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.hdf5.attributes import longest_claim
from ptycho_adapters.files.hdf5.heaps import heaps_are_sound
from ptycho_adapters.files.memory import room_problem, with_mapping
from ptycho_adapters.files.pattern_map import BYTES_AT_ONCE
from ptycho_adapters.files.reading import ArrayFacts
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from ptycho_adapters.files.pattern_map import PatternMap
    from ptycho_core.any_array import AnyArray

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
_MOST_NODES = 4096
_MOST_LEVELS = 12
_MOST_HOPS = 16
_SLACK_BYTES = 1 << 16
# Bytes out per byte in, at the best: deflate by its format, LZF by its longest back reference; others are not known.
_LARGEST_RATIOS = {"gzip": 1032, "lzf": 128, "szip": 1024}
_LARGEST_OTHER_RATIO = 1 << 16
_NUMERIC_KINDS = "biufc"
_LONGEST_TEXT = 1 << 20


class _ElsewhereError(ValueError):
    """A link that leaves the file."""


def open_h5(path: Path) -> h5py.File | Problem:
    """Open an HDF5 file for reading, or say what keeps it from being opened."""
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    try:
        return h5py.File(path, "r")
    except DAMAGE as error:
        return damaged("file", error, "a complete HDF5 file")


def list_arrays(file: h5py.File) -> tuple[dict[str, ArrayFacts], list[Problem]]:
    """List the datasets of numbers by path, soft links within the file included, and what could not be looked at."""
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
            facts = _array_facts(node)
            if facts is not None:
                found[name] = facts
            elif _is_group(node) and level < _MOST_LEVELS:
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
        except _ElsewhereError:
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
    """Follow a path through hard links and soft links within the file.

    Returns:
        The group or dataset; None when there is none; a problem for damage or a link to another file.
    """
    try:
        return _walk(file, name, _MOST_HOPS)
    except _ElsewhereError as error:
        return Problem(path=name, expected="data in this file", found=str(error), fix="copy it into one file")
    except DAMAGE as error:
        return damaged(name, error, "a readable object")


def _walk(group: h5py.Group, name: str, hops: int) -> Node | None:
    node: Node | None = group["/"] if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        if part == ".":
            continue
        if node is None or not _is_group(node):
            return None
        node = _step(node, part, hops)
    return node


def _step(group: h5py.Group, part: str, hops: int) -> Node | None:
    """Take one step down, following soft links by hand so that none leads out of the file."""
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    link = group.get(part, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        msg = f"a link to the file {link.filename}"
        raise _ElsewhereError(msg)
    if isinstance(link, h5py.SoftLink):
        if hops == 0:
            msg = "links that lead nowhere"
            raise ValueError(msg)
        return _walk(group, link.path, hops - 1)
    node = group[part]
    return node if isinstance(node, h5py.Group | h5py.Dataset) else None


def _is_group(node: Node) -> bool:
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    return isinstance(node, h5py.Group)


def _array_facts(node: Node) -> ArrayFacts | None:
    """Give shape and dtype of a dataset of numbers, None for anything else."""
    if _is_group(node):
        return None
    try:
        shape, dtype = node.shape, node.dtype
    except DAMAGE:
        # A type that NumPy has no equal of.
        return None
    return None if shape is None or dtype.kind not in _NUMERIC_KINDS else ArrayFacts(shape=tuple(shape), dtype=dtype)


def read_patterns(file: h5py.Group, name: str, pattern_map: PatternMap | None) -> AnyArray | Problem | None:
    """Read a dataset of patterns, into memory or into a map, as `read_array` reads any other."""
    array = read_array(file, name, pattern_map)
    return with_mapping(array) if isinstance(array, Problem) else array


def read_array(file: h5py.Group, name: str, pattern_map: PatternMap | None = None) -> AnyArray | Problem | None:
    """Read a dataset of numbers whole.

    Args:
        file: where it is.
        name: its path.
        pattern_map: where to put it, some frames at a time, instead of into memory.

    Returns:
        The array, read-only; None when there is none; a problem that names the path for anything else than numbers,
        for damage, for a shape that the stored bytes cannot fill and for data in another file.
    """
    node = find_node(file, name)
    if node is None or isinstance(node, Problem):
        return node
    try:
        facts = _array_facts(node)
        if facts is None:
            return Problem(path=name, expected="an array of numbers", found=_kind_of(node))
        if facts.dtype.kind == "c" and not is_plain_record(node, facts.dtype):
            return Problem(path=name, expected="complex numbers", found="records whose parts do not lie in them")
        problem = _storage_problem(node, name, facts)
        if problem is None and pattern_map is not None and pattern_map.takes(facts.shape, facts.dtype):
            return pattern_map.add(name, facts.shape, facts.dtype, _pieces(node, facts))
        problem = problem or room_problem(name, facts.nbytes)
        return problem if problem is not None else _load(node, facts)
    except DAMAGE as error:
        return damaged(name, error, "an undamaged array")


def is_plain_record(node: h5py.Dataset, dtype: np.dtype[np.generic]) -> bool:
    """Tell whether a dataset's records are in the file exactly as this dtype has them.

    libhdf5 trusts the offsets of a record's parts, and reads beyond the record where they are damaged.
    """
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    return bool(h5py.h5t.py_create(dtype, logical=True) == node.id.get_type())


def _pieces(node: h5py.Dataset, facts: ArrayFacts) -> Iterator[npt.NDArray[np.generic]]:
    """Read some frames at a time; none that HDF5 keeps together are read twice."""
    together = node.chunks[0] if node.chunks is not None else 1
    step = max(1, BYTES_AT_ONCE * facts.shape[0] // facts.nbytes // together) * together
    for first in range(0, facts.shape[0], step):
        piece: npt.NDArray[np.generic] = node[first : first + step]
        yield piece


def _load(node: h5py.Dataset, facts: ArrayFacts) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = np.empty(facts.shape, facts.dtype)
    if array.size:
        node.read_direct(array)
    array.setflags(write=False)
    return array


def _kind_of(node: Node) -> str:
    return "a group" if _is_group(node) else f"a dataset of type {node.dtype}, shape {node.shape}"


def _storage_problem(node: h5py.Dataset, name: str, facts: ArrayFacts) -> Problem | None:
    """Compare what the shape promises with what is stored, before anything is allocated."""
    if node.is_virtual or node.external:
        expected = "data in this file"
        return Problem(path=name, expected=expected, found="data in other files", fix="copy it into one file")
    if not facts.nbytes:
        return None
    declared, ratio = facts.nbytes, 1
    if node.chunks is not None:
        missing = _missing_filter(node)
        if missing is not None:
            return Problem(
                path=name,
                expected="a compression that this HDF5 library knows",
                found=f"filter {missing}",
                fix="pip install hdf5plugin",
            )
        n_chunks = math.prod(-(-side // chunk) for side, chunk in zip(facts.shape, node.chunks, strict=True))
        written = node.id.get_num_chunks()
        if written != n_chunks:
            return Problem(path=name, expected=f"{n_chunks} chunks of data", found=f"{written}: it is incomplete")
        declared = n_chunks * math.prod(node.chunks) * facts.dtype.itemsize
        ratio = _ratio(node)
    stored = min(node.id.get_storage_size(), node.file.id.get_filesize())
    if declared > ratio * stored + (_SLACK_BYTES if ratio > 1 else 0):
        return Problem(path=name, expected=f"{declared} bytes for {facts.shape} of {facts.dtype}", found=f"{stored}")
    return None


def _ratio(node: h5py.Dataset) -> int:
    n_filters = node.id.get_create_plist().get_nfilters()
    return _LARGEST_RATIOS.get(node.compression, _LARGEST_OTHER_RATIO) if n_filters else 1


def _missing_filter(node: h5py.Dataset) -> str | None:
    """Name the first filter that HDF5 cannot apply; the plugins of hdf5plugin are loaded if they are installed."""
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    properties = node.id.get_create_plist()
    for position in range(properties.get_nfilters()):
        code, _, _, label = properties.get_filter(position)
        if not h5py.h5z.filter_avail(code):
            try:
                importlib.import_module("hdf5plugin")
            except ImportError:
                return f"{code} ({label.decode(errors='replace')})"
            if not h5py.h5z.filter_avail(code):
                return f"{code} ({label.decode(errors='replace')})"
    return None


def read_number(node: Node, name: str) -> float | Problem | None:
    """Read an attribute that is one real number.

    Returns:
        The number; None when there is no such attribute; a problem for anything else.
    """
    try:
        if name not in node.attrs:
            return None
        identifier = node.attrs.get_id(name)
        shape, dtype = identifier.shape, identifier.dtype
        if math.prod(shape) != 1 or dtype.kind not in "biuf":
            return Problem(path=name, expected="one number", found=f"shape {shape} of {dtype}")
        return float(np.asarray(node.attrs[name]).reshape(()))
    except DAMAGE as error:
        return damaged(name, error, "a number")


def read_numbers(node: Node, name: str, *, length: int) -> npt.NDArray[np.float64] | Problem | None:
    """Read an attribute that is a list of so many real numbers.

    Returns:
        (length,) float64; None when there is no such attribute; a problem for anything else.
    """
    try:
        if name not in node.attrs:
            return None
        identifier = node.attrs.get_id(name)
        shape, dtype = identifier.shape, identifier.dtype
        if shape != (length,) or dtype.kind not in "iuf":
            return Problem(path=name, expected=f"{length} numbers", found=f"shape {shape} of {dtype}")
        return np.asarray(node.attrs[name]).astype(np.float64)
    except DAMAGE as error:
        return damaged(name, error, f"{length} numbers")


def read_text(node: Node, name: str) -> str | Problem | None:
    """Read an attribute that is one text.

    A text of variable length lies in a heap, and a damaged heap keeps the HDF5 library busy for ever, so the file's
    heaps are looked at first, and the length that the text claims.

    Returns:
        The text; None when there is no such attribute; a problem for anything else.
    """
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    try:
        if name not in node.attrs:
            return None
        identifier = node.attrs.get_id(name)
        shape, dtype = identifier.shape, identifier.dtype
        in_heap = h5py.check_string_dtype(dtype) is not None and dtype.kind == "O"
        if math.prod(shape) != 1 or not (in_heap or dtype.kind == "S") or dtype.itemsize > _LONGEST_TEXT:
            return Problem(path=name, expected="one text", found=f"shape {shape} of {dtype}")
        if in_heap and not heaps_are_sound(Path(node.file.filename)):
            return Problem(path=name, expected="a text", found="a damaged heap of texts")
        if in_heap and (longest_claim(Path(node.file.filename), name) or 0) > _LONGEST_TEXT:
            return Problem(path=name, expected=f"a text of at most {_LONGEST_TEXT} bytes", found="a longer one")
        value = np.asarray(node.attrs[name]).reshape(()).item()
        return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    except DAMAGE as error:
        return damaged(name, error, "a text")


def read_long_text(file: h5py.Group, name: str) -> str | Problem | None:
    """Read a dataset that is one ASCII text of fixed length.

    Returns:
        The text; None when there is none; a problem for anything else.
    """
    node = find_node(file, name)
    if node is None or isinstance(node, Problem):
        return node
    try:
        if _is_group(node) or node.dtype.kind != "S" or node.shape != ():
            return Problem(path=name, expected="one text", found=_kind_of(node))
        problem = _storage_problem(node, name, ArrayFacts(shape=(), dtype=node.dtype))
        return problem if problem is not None else bytes(node[()]).rstrip(b"\0").decode("ascii")
    except DAMAGE as error:
        return damaged(name, error, "a text")


def damaged(path: str, error: BaseException, expected: str) -> Problem:
    """Turn what the HDF5 library says into a problem."""
    text = " ".join(str(error).split()) or type(error).__name__
    return Problem(path=path, expected=expected, found=f"damaged data ({text})")
