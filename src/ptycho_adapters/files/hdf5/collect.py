"""Reading several things from one HDF5 file, with every problem collected."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.hdf5.members import read_array, read_patterns
from ptycho_adapters.files.hdf5.nodes import DAMAGE, damaged, find_node, open_h5
from ptycho_adapters.files.hdf5.texts import read_text
from ptycho_adapters.files.units import factor_to
from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py
    import numpy.typing as npt

    from ptycho_adapters.files.hdf5.nodes import Node
    from ptycho_adapters.files.in_file import InFile
    from ptycho_adapters.files.pattern_map import PatternMap
    from ptycho_core.any_array import AnyArray

_LONGEST_TEXT = 1 << 24
_LISTED = 8
_EQUAL = 1e-6
UNITS = "units"


class Collector:
    """An open HDF5 file and what could not be read of it so far.

    Attributes:
        file: the file.
        problems: what could not be read; grows.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def has(self, key: str) -> bool:
        """Tell whether there is something under a path, be it damaged."""
        return find_node(self.file, key) is not None

    def first(self, *keys: str) -> str | None:
        """Give the first of these paths that there is, None if there is none."""
        return next((key for key in keys if self.has(key)), None)

    def names(self, key: str) -> list[str]:
        """List what is in a group; nothing for anything else."""
        try:
            node = find_node(self.file, key)
            return [] if node is None or isinstance(node, Problem) else list(map(str, node.keys()))
        except DAMAGE:
            return []

    def kind(self, key: str) -> str:
        """Give the letter of a dataset's dtype, as NumPy has it; empty for anything else."""
        try:
            node = find_node(self.file, key)
            return "" if node is None or isinstance(node, Problem) else str(node.dtype.kind)
        except DAMAGE:
            return ""

    def array(self, key: str, expected: str) -> AnyArray | None:
        """Read an array of numbers; None, with a problem noted, where there is none.

        Args:
            key: path in the file.
            expected: what it is, for messages.
        """
        return self._noted(read_array(self.file, key), key, expected)

    def patterns(
        self,
        key: str,
        expected: str,
        pattern_map: PatternMap | InFile | None,
        dark: npt.NDArray[np.float32] | None = None,
    ) -> AnyArray | None:
        """Read patterns, as `array` does, into memory or, where there is one, into a map; less a dark frame, if any."""
        return self._noted(read_patterns(self.file, key, pattern_map, dark), key, expected)

    def _noted(self, found: AnyArray | Problem | None, key: str, expected: str) -> AnyArray | None:
        if found is None:
            listed = ", ".join(self._listed(key)) or "nothing"
            found = Problem(path=key, expected=expected, found=f"only {listed}")
        if isinstance(found, Problem):
            self.problems.append(found)
            return None
        return found

    def quantity(self, key: str, expected: str, unit: str) -> AnyArray | None:
        """Read an array as `array` does, in a unit: numbers with a `units` attribute are brought to it."""
        array, factor = self.array(key, expected), self._factor(key, unit)
        if array is None or factor is None or factor == 1.0 or array.dtype.kind not in "iuf":
            return array if factor is not None else None
        return array.astype(np.float64) * factor

    def unit(self, key: str) -> str | None:
        """Give the `units` attribute of a dataset as it stands; None where there is none that says anything."""
        node = find_node(self.file, key)
        stated = None if node is None or isinstance(node, Problem) else read_text(node, UNITS)
        return stated if isinstance(stated, str) and stated else None

    def _factor(self, key: str, unit: str) -> float | None:
        """Give the factor that brings numbers to a unit by their `units` attribute; None, noted, where it is none."""
        node = find_node(self.file, key)
        stated = None if node is None or isinstance(node, Problem) else read_text(node, UNITS)
        if stated is None or stated == "":
            return 1.0
        factor = stated if isinstance(stated, Problem) else factor_to(unit, stated, f"{key}@{UNITS}")
        if isinstance(factor, Problem):
            self.problems.append(attrs.evolve(factor, path=f"{key}@{UNITS}"))
            return None
        return factor

    def number(self, key: str, unit: str | None = None) -> float | None:
        """Read a real number, kept once or as an array of equal ones; None where there is none.

        What is there but no such number is noted as a problem.

        Args:
            key: path in the file.
            unit: unit to give it in, which it is taken to be in where no `units` attribute says otherwise.
        """
        if not self.has(key):
            return None
        factor = 1.0 if unit is None else self._factor(key, unit)
        if factor is None:
            return None
        array = self.array(key, "one real number")
        if array is None:
            return None
        if not array.size or array.dtype.kind not in "iuf":
            found = f"shape {array.shape} of {array.dtype}"
            self.problems.append(Problem(path=key, expected="one real number", found=found))
            return None
        values = array.astype(np.float64).ravel()
        value = float(values[0])
        if not np.allclose(values, value, rtol=_EQUAL, atol=0.0, equal_nan=True):
            found = f"{values.size} numbers from {values.min():g} to {values.max():g}"
            self.problems.append(Problem(path=key, expected="one real number", found=found))
            return None
        return value * factor

    def positive(self, key: str, unit: str | None = None) -> float | None:
        """Read a number above zero, as `number` does; None where there is none, or 0 stands for it."""
        value = self.number(key, unit)
        if value is None or value == 0.0:
            return None
        if not (np.isfinite(value) and value > 0.0):
            self.problems.append(Problem(path=key, expected="a finite number > 0", found=f"{value:g}"))
            return None
        return value

    def text(self, key: str) -> str | None:
        """Read a text of fixed length; None for anything else.

        Texts of variable length lie in a heap, through which damage can send libhdf5 in circles.
        """
        node = find_node(self.file, key)
        if node is None or isinstance(node, Problem):
            return None
        try:
            if node.dtype.kind != "S" or node.shape != () or not 0 < node.dtype.itemsize <= _LONGEST_TEXT:
                return None
            if node.id.get_storage_size() != node.dtype.itemsize or node.external or node.is_virtual:
                return None
            return bytes(node[()]).rstrip(b"\0").decode("utf-8")
        except DAMAGE as error:
            self.problems.append(damaged(key, error, "a text"))
            return None

    def flag(self, key: str, name: str) -> bool | None:
        """Read a numeric attribute of a dataset as a flag; None where there is none."""
        node = find_node(self.file, key)
        if node is None or isinstance(node, Problem):
            return None
        return _flag(node, name)

    def _listed(self, key: str) -> list[str]:
        """Name what is there instead, in the deepest group that exists on the way."""
        parts = [part for part in key.split("/") if part]
        while parts:
            parts.pop()
            names = self.names("/".join(parts) or "/")
            if names:
                prefix = "/".join(parts)
                shown = [f"{prefix}/{name}" if prefix else name for name in names[:_LISTED]]
                return [*shown, "…"] if len(names) > _LISTED else shown
        return []


def _flag(node: Node, name: str) -> bool | None:
    try:
        if name not in node.attrs:
            return None
        attribute = node.attrs.get_id(name)
        if attribute.shape not in {(), (1,)} or attribute.dtype.kind not in "biu":
            return None
        return bool(np.asarray(node.attrs[name]).ravel()[0])
    except DAMAGE:
        return None


@contextmanager
def collecting(path: Path) -> Iterator[Collector]:
    """Open an HDF5 file for reading.

    Yields:
        The file with an empty list of problems.

    Raises:
        ScanFileError: it is no HDF5 file, or one so damaged that it cannot be opened.
    """
    file = open_h5(path)
    if isinstance(file, Problem):
        raise ScanFileError(str(path), [file])
    with file:
        yield Collector(file)
