"""A part of many scans: what one task of an array job takes of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self, TypeVar

import attrs

from ptycho_adapters.command_line.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

SLURM = "slurm"
"""The word that asks for the part that SLURM gave this task of an array."""

_ARRAY = "SLURM_ARRAY_TASK_"
_TABLES = re.compile(r"summary(-part-\d+-of-\d+)?\.(json|csv)")


@attrs.frozen(kw_only=True)
class Part:
    """One of several parts of a list, which together are the list.

    Attributes:
        number: from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str, environment: Mapping[str, str]) -> Self:
        """Return the part that a text stands for: `2/8`, or `slurm` for what the environment says.

        Raises:
            UsageError: it stands for none.
        """
        if text == SLURM:
            return cls._of_array(environment)
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(
                f"--part: expected K/OF with K from 1 to OF, such as 2/8, or '{SLURM}' in an array job, found {text!r}"
            )
        return cls(number=int(match[1]), of=int(match[2]))

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Self:
        names = [f"{_ARRAY}{name}" for name in ("ID", "COUNT", "MIN", "STEP")]
        # Where the last two are not said, tasks count from 1, one by one.
        said = [environment.get(name, default) for name, default in zip(names, ("", "", "1", "1"), strict=True)]
        if not all(re.fullmatch(r"\d{1,9}", value, re.ASCII) for value in said) or int(said[3]) == 0:
            told = ", ".join(f"{name}={value!r}" for name, value in zip(names, said, strict=True))
            raise UsageError(
                f"--part {SLURM}: expected a task of an array job, found {told}: submit with sbatch --array=1-8"
            )
        task, count, first, step = map(int, said)
        number, rest = divmod(task - first, step)
        if rest or not 0 <= number < count:
            raise UsageError(
                f"--part {SLURM}: expected an array without gaps, such as --array=1-8, found task {task} of {count} "
                f"that begin at {first}"
            )
        return cls(number=number + 1, of=count)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def taken(self, items: Sequence[T]) -> list[T]:
        """Return every `of`-th item: what comes first and last, often unlike, is spread over all parts."""
        return list(items[self.number - 1 :: self.of])


def table_names(part: Part | None) -> tuple[str, str]:
    """Return the names of the files about all scans, JSON and CSV; a part has its own."""
    own = "" if part is None else f"-part-{part.number}-of-{part.of}"
    return f"summary{own}.json", f"summary{own}.csv"


def is_table_name(name: str) -> bool:
    """Tell whether a file about all scans, or about a part of them, may be called so."""
    return _TABLES.fullmatch(name) is not None
