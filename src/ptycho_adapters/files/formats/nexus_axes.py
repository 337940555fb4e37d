"""Which dataset of a NeXus file is the signal, and which are the places of its scan."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.files.hdf5.members import read_number
from ptycho_adapters.files.hdf5.nodes import find_node
from ptycho_adapters.files.hdf5.texts import read_text, read_texts
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ptycho_adapters.files.hdf5.collect import Collector
    from ptycho_adapters.files.reading import ArrayFacts, Evidence
    from ptycho_adapters.files.stacks.stack import FrameStack

_MOST_GROUPS = 64
_NAMES = re.compile(r"[\[\]\s]*[,:;][\[\]\s]*|[\[\]\s]+")
# Alone, behind what is no letter, or behind what motors are called: y, stage_y, samy, lab_sy, translation_y, y_set.
_MOTOR = "s|sam|smp|sample|stage|pos|position|scan|piezo|p|t|m|mot|motor|trans|translation|lab|np|fine|coarse"
_IS_X, _IS_Y = (re.compile(rf"(?:^|.*[^a-z])(?:{_MOTOR})?{letter}(?:$|[^a-z].*)", re.IGNORECASE) for letter in "xy")


@attrs.frozen
class ScanAxis:
    """Where one coordinate of the scan is.

    Attributes:
        key: the dataset.
        of_raster: the axis of the raster that it belongs to, 0 for rows; None where it has a number for each frame.
    """

    key: str
    of_raster: int | None


def signal_of(file: Collector, arrays: Mapping[str, ArrayFacts]) -> str | None:
    """Give the signal of the default plot, else of another group of data, if it is a stack of frames; else None."""
    groups = _plots(file, arrays)
    for group in groups[:_MOST_GROUPS]:
        node = find_node(file.file, group or "/")
        if node is None or isinstance(node, Problem):
            continue
        signal = read_text(node, "signal")
        names = [signal] if isinstance(signal, str) else []
        names += [name for name in _children(arrays, group) if _is_marked(file, _path(group, name))]
        for name in names:
            facts = arrays.get(_path(group, name))
            if facts is not None and len(facts.shape) in (3, 4) and facts.dtype.kind in "iuf" and facts.nbytes:
                return _path(group, name)
    return None


def axes_of(file: Collector, evidence: Evidence, stack: FrameStack) -> tuple[ScanAxis, ScanAxis] | None:
    """Give the axes of y and of x.

    Args:
        file: the file.
        evidence: what it shows.
        stack: the frames.

    Returns:
        The two, named as the axes of a group that holds the frames, or found in it or elsewhere by name and length.
        None where nothing fits.
    """
    arrays = evidence.arrays
    own = stack.key.rpartition("/")[0]
    for group in [*_plots(file, arrays)[:_MOST_GROUPS], own]:
        named = [_path(group, name) for name in _axis_names(file, group)]
        found = _in_order(named, arrays, stack) or _matched(named, arrays, stack)
        if found is None and (named or group == own):
            found = _matched([_path(group, name) for name in _children(arrays, group)], arrays, stack)
        if found is not None:
            return found
    # Motors stand with the sample or the instrument; of several, those that come first. Nobody called them axes.
    motors = [name for name in arrays if file.unit(name) is not None]
    return _matched(sorted(motors, key=lambda name: ("sample" not in name, name)), arrays, stack)


def _in_order(
    named: Sequence[str], arrays: Mapping[str, ArrayFacts], stack: FrameStack
) -> tuple[ScanAxis, ScanAxis] | None:
    """Take the vectors of a raster in the order in which they are named; what is called x is x, even of the rows."""
    if stack.raster is None or len(named) < len(stack.raster):
        return None
    if any(arrays[name].shape != (side,) for name, side in zip(named, stack.raster, strict=False) if name in arrays):
        return None
    if any(name not in arrays or arrays[name].dtype.kind not in "iuf" for name in named[:2]):
        return None
    rows, columns = ScanAxis(named[0], 0), ScanAxis(named[1], 1)
    turned = _IS_X.fullmatch(_last(rows.key)) and _IS_Y.fullmatch(_last(columns.key))
    return (columns, rows) if turned else (rows, columns)


def _matched(
    names: Sequence[str], arrays: Mapping[str, ArrayFacts], stack: FrameStack
) -> tuple[ScanAxis, ScanAxis] | None:
    """Pick one axis for y and one for x, by name."""
    axes = {name: axis for name in names if name in arrays and (axis := _axis(name, arrays[name], stack)) is not None}
    vertical = [axis for name, axis in axes.items() if _IS_Y.fullmatch(_last(name))]
    across = [axis for name, axis in axes.items() if _IS_X.fullmatch(_last(name))]
    pairs = (_fitting(y, x, stack) for y in vertical for x in across)
    return next((pair for pair in pairs if pair is not None), None)


def _axis(name: str, facts: ArrayFacts, stack: FrameStack) -> ScanAxis | None:
    if facts.dtype.kind not in "iuf" or name == stack.key:
        return None
    n_frames = stack.facts.shape[0]
    if stack.raster is not None and len(facts.shape) == 1 and facts.shape[0] in stack.raster:
        return ScanAxis(name, stack.raster.index(facts.shape[0]))
    shape = tuple(side for side in facts.shape if side != 1)
    return ScanAxis(name, None) if n_frames > 1 and shape in {(n_frames,), stack.raster} else None


def _fitting(y: ScanAxis, x: ScanAxis, stack: FrameStack) -> tuple[ScanAxis, ScanAxis] | None:
    """Let two axes share a raster: in a square one a length fits either of its axes, and y is that of the rows."""
    if (y.of_raster is None) != (x.of_raster is None):
        return None
    if y.of_raster is None or y.of_raster != x.of_raster:
        return y, x
    is_square = stack.raster is not None and stack.raster[0] == stack.raster[1]
    return (ScanAxis(y.key, 0), ScanAxis(x.key, 1)) if is_square else None


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _plots(file: Collector, arrays: Iterable[str]) -> list[str]:
    """List the groups that hold datasets, the default plot first, then those that call themselves data."""
    groups = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    default = _default(file)
    return sorted(groups, key=lambda group: (group != default, "data" not in group.lower(), group))


def _default(file: Collector) -> str:
    """Follow `default` from the root to the group that is to be plotted."""
    at = ""
    for _ in range(4):
        node = find_node(file.file, at or "/")
        if node is None or isinstance(node, Problem):
            break
        name = read_text(node, "default")
        if not isinstance(name, str) or not file.has(_path(at, name)):
            break
        at = _path(at, name)
    return at


def _axis_names(file: Collector, group: str) -> list[str]:
    """Read the names of the axes: a list, or one text with commas, colons or blanks between them."""
    node = find_node(file.file, group or "/")
    if node is None or isinstance(node, Problem):
        return []
    said = read_texts(node, "axes")
    return [] if not isinstance(said, list) else [part for text in said for part in _NAMES.split(text) if part]


def _is_marked(file: Collector, key: str) -> bool:
    """Tell the older way to mark a signal: the number 1 at the dataset."""
    node = find_node(file.file, key)
    return node is not None and not isinstance(node, Problem) and read_number(node, "signal") == 1.0


def _children(arrays: Iterable[str], group: str) -> list[str]:
    prefix = f"{group}/" if group else ""
    return [name[len(prefix) :] for name in arrays if name.startswith(prefix) and "/" not in name[len(prefix) :]]


def _path(group: str, name: str) -> str:
    return name.strip("/") if name.startswith("/") or not group else f"{group}/{name}"
