"""Arrays, numbers and texts of an HDF5 file: nothing allocated that the file cannot fill, no other file opened."""

from __future__ import annotations

import importlib
import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.hdf5.elsewhere import HERE, ElsewhereError, linked_file
from ptycho_adapters.files.hdf5.frames import depth_problem, left_in_file
from ptycho_adapters.files.hdf5.nodes import DAMAGE, FOLLOW, Node, array_facts, damaged, find_node, is_group
from ptycho_adapters.files.in_file import InFile
from ptycho_adapters.files.memory import room_problem, with_mapping
from ptycho_adapters.files.pattern_map import BYTES_AT_ONCE
from ptycho_adapters.files.reading import ArrayFacts
from ptycho_core.errors import Problem
from ptycho_core.measurement.preparation.darks import less_dark

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from ptycho_adapters.files.pattern_map import PatternMap
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.stored import StoredPatterns

_SLACK_BYTES = 1 << 16
# Bytes out per byte in, at the best: deflate by its format, LZF by its longest back reference; others are not known.
_LARGEST_RATIOS = {"gzip": 1032, "lzf": 128, "szip": 1024}
_LARGEST_OTHER_RATIO = 1 << 16
_MOST_SOURCES = 1 << 14
_RASTER_AXES = 4
_STACK_AXES = (3, 4)


def read_patterns(
    file: h5py.Group,
    name: str,
    pattern_map: PatternMap | InFile | None,
    dark: npt.NDArray[np.float32] | None = None,
) -> AnyArray | Problem | None:
    """Read a dataset of patterns, into memory or into a map, as `read_array` reads any other; a raster row by row.

    Args:
        file: where it is.
        name: its path.
        pattern_map: where to put them, or that they are to be left where they are, instead of into memory.
        dark: (N, N), taken off every frame, which makes float32 of them; what stands for an overflow becomes NaN.
    """
    array = read_array(file, name, pattern_map, dark)
    if isinstance(array, Problem):
        return with_mapping(array)
    # What stays in its file is a stack already.
    return array.reshape(-1, *array.shape[-2:]) if array is not None and array.ndim == _RASTER_AXES else array


def read_array(
    file: h5py.Group,
    name: str,
    pattern_map: PatternMap | InFile | None = None,
    dark: npt.NDArray[np.float32] | None = None,
) -> AnyArray | Problem | None:
    """Read a dataset of numbers whole.

    Args:
        file: where it is.
        name: its path.
        pattern_map: where to put it, some frames at a time, or that it is to be left, instead of into memory.
        dark: taken off every frame, see `read_patterns`.

    Returns:
        The array, read-only; None when there is none; a problem that names the path for anything else than numbers,
        for damage, for a shape that the stored bytes cannot fill and for data in another file.
    """
    node = find_node(file, name)
    if node is None or isinstance(node, Problem):
        return node
    try:
        facts = array_facts(node)
        if facts is None:
            return Problem(path=name, expected="an array of numbers", found=kind_of(node))
        if facts.dtype.kind == "c" and not is_plain_record(node, facts.dtype):
            return Problem(path=name, expected="complex numbers", found="records whose parts do not lie in them")
        return _storage_problem(node, name, facts) or _stored(node, name, facts, pattern_map, dark)
    except DAMAGE as error:
        return damaged(name, error, "an undamaged array")


def _stored(
    node: h5py.Dataset,
    name: str,
    facts: ArrayFacts,
    pattern_map: PatternMap | InFile | None,
    dark: npt.NDArray[np.float32] | None,
) -> AnyArray | Problem:
    """Read what is known to be stored, into memory or into a map, or leave it."""
    if isinstance(pattern_map, InFile):
        if _STACK_AXES[0] <= len(facts.shape) <= _STACK_AXES[1] and pattern_map.holds(facts.nbytes):
            return _left(node, name, facts, dark)
        pattern_map = None
    if dark is not None:
        return _without_dark(node, name, facts, pattern_map, dark)
    if pattern_map is not None and pattern_map.takes(facts.shape, facts.dtype):
        stack = facts.as_stack()
        pieces = (piece.reshape(-1, *stack.shape[1:]) for piece in _pieces(node, facts))
        return pattern_map.add(name, stack.shape, facts.dtype, pieces)
    return room_problem(name, facts.nbytes) or _load(node, facts)


def _left(node: h5py.Dataset, name: str, facts: ArrayFacts, dark: npt.NDArray[np.float32] | None) -> AnyArray | Problem:
    """Leave patterns where they are; a dark frame is taken off when they are read."""
    problem = depth_problem(node, name, facts)
    if problem is not None:
        return problem
    found = left_in_file(node, name, facts)
    if dark is None:
        return found.as_array()
    problem = _dark_problem(name, facts, dark)
    if problem is not None:
        return problem
    return found.changed(lambda frames, _: less_dark(frames, dark), np.dtype(np.float32)).as_array()


def is_plain_record(node: h5py.Dataset, dtype: np.dtype[np.generic]) -> bool:
    """Tell whether a dataset's records are in the file exactly as this dtype has them.

    libhdf5 trusts the offsets of a record's parts, and reads beyond the record where they are damaged.
    """
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    return bool(h5py.h5t.py_create(dtype, logical=True) == node.id.get_type())


def read_frames(file: h5py.Group, name: str) -> Iterator[AnyArray] | Problem:
    """Read a stack some frames at a time, never as a whole.

    Returns:
        Its pieces, which raise what h5py raises on damage; a problem where they cannot be there.
    """
    node = find_node(file, name)
    if node is None or isinstance(node, Problem):
        return node or Problem(path=name, expected="a stack of frames", found="none")
    try:
        facts = array_facts(node)
        if facts is None or not facts.nbytes:
            return Problem(path=name, expected="an array of numbers", found=kind_of(node))
        return _storage_problem(node, name, facts) or _pieces(node, facts)
    except DAMAGE as error:
        return damaged(name, error, "an undamaged array")


def leave_frames(file: h5py.Group, name: str) -> StoredPatterns | Problem:
    """Give a stack (n, H, W) or (ny, nx, H, W) that stays where it is, to read frames of by their numbers."""
    pieces = read_frames(file, name)
    if isinstance(pieces, Problem):
        return pieces
    node = file[name]
    facts = array_facts(node)
    if facts is None:
        return Problem(path=name, expected="an array of numbers", found=kind_of(node))
    return left_in_file(node, name, facts)


def _without_dark(
    node: h5py.Dataset, name: str, facts: ArrayFacts, pattern_map: PatternMap | None, dark: npt.NDArray[np.float32]
) -> AnyArray | Problem:
    """Read frames less a dark one, into memory or into a map."""
    shape, dtype = facts.as_stack().shape, np.dtype(np.float32)
    misfit = _dark_problem(name, facts, dark)
    if misfit is not None:
        return misfit
    pieces = (less_dark(piece.reshape(-1, *shape[1:]), dark) for piece in _pieces(node, facts))
    if pattern_map is not None and pattern_map.takes(shape, dtype):
        return pattern_map.add(name, shape, dtype, pieces)
    problem = room_problem(name, math.prod(shape) * dtype.itemsize)
    if problem is not None:
        return problem
    whole, first = np.empty(shape, dtype), 0
    for piece in pieces:
        whole[first : first + len(piece)] = piece
        first += len(piece)
    whole.setflags(write=False)
    return whole


def _dark_problem(name: str, facts: ArrayFacts, dark: npt.NDArray[np.float32]) -> Problem | None:
    if facts.shape[-2:] == dark.shape and facts.dtype.kind in "iuf":
        return None
    found = f"shape {facts.shape} of {facts.dtype}"
    return Problem(path=name, expected=f"frames of {dark.shape}, as the dark one", found=found)


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


def kind_of(node: Node) -> str:
    """Say what something is that is no array of numbers."""
    return "a group" if is_group(node) else f"a dataset of type {node.dtype}, shape {node.shape}"


def _storage_problem(node: h5py.Dataset, name: str, facts: ArrayFacts) -> Problem | None:
    """Compare what the shape promises with what is stored, before anything is allocated."""
    if node.external or node.is_virtual:
        return _elsewhere_problem(node, name)
    if not facts.nbytes:
        return None
    if node.chunks is None:
        return _size_problem(node, name, facts, facts.nbytes, 1)
    missing = _missing_filter(node)
    if missing is not None:
        expected, fix = "a compression that this HDF5 library knows", "pip install hdf5plugin"
        return Problem(path=name, expected=expected, found=f"filter {missing}", fix=fix)
    n_chunks = math.prod(-(-side // chunk) for side, chunk in zip(facts.shape, node.chunks, strict=True))
    written = node.id.get_num_chunks()
    if written != n_chunks:
        return Problem(path=name, expected=f"{n_chunks} chunks of data", found=f"{written}: it is incomplete")
    declared = n_chunks * math.prod(node.chunks) * facts.dtype.itemsize
    return _size_problem(node, name, facts, declared, _ratio(node))


def _size_problem(node: h5py.Dataset, name: str, facts: ArrayFacts, declared: int, ratio: int) -> Problem | None:
    """Say that what is stored cannot become as many bytes as declared, whatever the compression."""
    stored = min(node.id.get_storage_size(), node.file.id.get_filesize())
    if declared <= ratio * stored + (_SLACK_BYTES if ratio > 1 else 0):
        return None
    return Problem(path=name, expected=f"{declared} bytes for {facts.shape} of {facts.dtype}", found=f"{stored}")


def _elsewhere_problem(node: h5py.Dataset, name: str) -> Problem | None:
    """Look at every dataset that a virtual one is made of: HDF5 gives fill values for those that are not there."""
    if node.external:
        return Problem(path=name, expected=HERE, found="raw data in other files", fix="copy it into one file")
    sources = node.virtual_sources()
    if len(sources) > _MOST_SOURCES or not sources:
        expected, found = f"1 to {_MOST_SOURCES} sources of a virtual dataset", f"{len(sources)}"
        return Problem(path=name, expected=expected, found=found, fix="copy it into one file")
    for file_name, dataset in {(source.file_name, source.dset_name) for source in sources}:
        problem = _source_problem(node, name, file_name, dataset)
        if problem is not None:
            return problem
    return None


def _source_problem(node: h5py.Dataset, name: str, file_name: str, dataset: str) -> Problem | None:
    import h5py  # noqa: PLC0415 - only who reads HDF5 needs it

    try:
        with (
            nullcontext(node.file)
            if file_name == "."
            else h5py.File(linked_file(node.file.filename, file_name), "r") as file
        ):
            found = find_node(file, dataset)
            if isinstance(found, Problem):
                return attrs.evolve(found, path=f"{name}, from {file_name}: {dataset}")
            facts = None if found is None else array_facts(found)
            if found is None or facts is None or found.is_virtual:
                what = "nothing" if found is None else "no data of its own"
                return Problem(path=name, expected=f"data in {file_name}: {dataset}", found=what)
            return _storage_problem(found, f"{name}, from {file_name}: {dataset}", facts)
    except ElsewhereError as error:
        return Problem(path=name, expected=HERE, found=str(error), fix=FOLLOW)


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


def read_long_text(file: h5py.Group, name: str) -> str | Problem | None:
    """Read a dataset that is one ASCII text of fixed length.

    Returns:
        The text; None when there is none; a problem for anything else.
    """
    node = find_node(file, name)
    if node is None or isinstance(node, Problem):
        return node
    try:
        if is_group(node) or node.dtype.kind != "S" or node.shape != ():
            return Problem(path=name, expected="one text", found=kind_of(node))
        problem = _storage_problem(node, name, ArrayFacts(shape=(), dtype=node.dtype))
        return problem if problem is not None else bytes(node[()]).rstrip(b"\0").decode("ascii")
    except DAMAGE as error:
        return damaged(name, error, "a text")
