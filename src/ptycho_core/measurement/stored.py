"""Patterns that stay where they are stored: some are read when they are asked for, and never all of them together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Numbers: TypeAlias = npt.NDArray[np.int64]
Read: TypeAlias = Callable[[Numbers], AnyArray]
Change: TypeAlias = Callable[[AnyArray, Numbers], AnyArray]
_Known = TypeVar("_Known")


@attrs.frozen(kw_only=True, eq=False)
class StoredPatterns:
    """A stack of patterns outside of memory, used as an array is along its first axis.

    A number, a slice or a list of numbers gives an array with those frames. Nothing gives all of them by accident: what
    would is a TypeError.

    Attributes:
        shape: (n, H, W).
        dtype: of what is read.
        source: where they are, for messages.
        read: gives the frames of ascending numbers, each once: an array (m, H, W) of this dtype that nobody else holds.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    source: str
    read: Read
    _known: dict[object, object] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all of them would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[AnyArray]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, key: int | slice | npt.NDArray[np.integer]) -> AnyArray:
        numbers = self._numbers(key)
        if not numbers.size:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if (numbers[1:] > numbers[:-1]).all():
            frames = self.read(numbers)
        else:
            unique, places = np.unique(numbers, return_inverse=True)
            frames = self.read(unique)[places]
        found: AnyArray = frames if isinstance(key, slice) or np.ndim(key) else frames[0]
        return found

    def _numbers(self, key: int | slice | npt.NDArray[np.integer]) -> Numbers:
        """Give the numbers of the frames that are meant, (m,), from 0 on."""
        n_frames = len(self)
        if isinstance(key, slice):
            return np.arange(*key.indices(n_frames), dtype=np.int64)
        numbers = np.atleast_1d(np.asarray(key))
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise self._refusal()
        if numbers.size and not -n_frames <= int(numbers.min()) <= int(numbers.max()) < n_frames:
            msg = f"a frame beyond the {n_frames} of {self.source}"
            raise IndexError(msg)
        counted: Numbers = np.where(numbers < 0, numbers + n_frames, numbers).astype(np.int64)
        return counted

    def __array__(self, dtype: object = None, copy: object = None) -> NoReturn:
        raise self._refusal()

    def _refusal(self) -> TypeError:
        return TypeError(
            f"the patterns of {self.source} stay in their file: take some frames, patterns[first:last], "
            "or read the scan into memory"
        )

    def as_array(self) -> AnyArray:
        """Give this to what takes an array and goes through it some frames at a time."""
        return cast("AnyArray", self)

    def changed(self, change: Change, dtype: np.dtype[np.generic] | None = None) -> StoredPatterns:
        """Give the same frames after a change, which is made whenever they are read.

        Args:
            change: of some frames, which it may write to, with their numbers; the result has the shape of the frames.
            dtype: that it gives; None for the same one.
        """
        read = self.read
        return attrs.evolve(
            self, dtype=self.dtype if dtype is None else dtype, read=lambda numbers: change(read(numbers), numbers)
        )

    def as_type(self, dtype: np.dtype[np.generic]) -> StoredPatterns:
        """Give the same frames as numbers of another type."""
        return self if dtype == self.dtype else self.changed(lambda frames, _: frames.astype(dtype), dtype)

    def taken(self, numbers: npt.NDArray[np.integer]) -> StoredPatterns:
        """Give some of the frames, (m,) numbers in any order."""
        chosen = np.asarray(numbers, dtype=np.int64)
        return attrs.evolve(self, shape=(len(chosen), *self.shape[1:]), read=lambda some: self[chosen[some]])

    def remembered(self, key: object, find: Callable[[], _Known]) -> _Known:
        """Give what was found out about all frames before, or find it: going through them takes long.

        Args:
            key: what it is; the same for what is the same.
            find: finds it.
        """
        if key not in self._known:
            self._known[key] = find()
        return cast("_Known", self._known[key])


def stored(patterns: object) -> StoredPatterns | None:
    """Give patterns that stay where they are stored as such; None for arrays."""
    return patterns if isinstance(patterns, StoredPatterns) else None


def joined(parts: list[StoredPatterns]) -> StoredPatterns:
    """Give stacks that continue each other, of the same frames and dtype, as one."""
    ends = np.cumsum([len(part) for part in parts])

    def read(numbers: Numbers) -> AnyArray:
        of_part = np.searchsorted(ends, numbers, side="right")
        pieces = [
            part.read(numbers[of_part == at] - (ends[at] - len(part)))
            for at, part in enumerate(parts)
            if (of_part == at).any()
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return attrs.evolve(parts[0], shape=(int(ends[-1]), *parts[0].shape[1:]), read=read)
