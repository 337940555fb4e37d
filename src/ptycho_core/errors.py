"""Errors as data: each problem says where, what was expected, what was found and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong with a user's input.

    Attributes:
        path: where it is: a dotted field path, a file key, a flag.
        expected: what would be right.
        found: what is there.
        fix: what to do about it; empty when `expected` already says it.
    """

    path: str
    expected: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: expected {self.expected}, found {self.found}"
        return f"{text}; {self.fix}" if self.fix else text


class PtychoError(Exception):
    """Base of every error that this library raises on purpose."""


class ProblemsError(PtychoError, ValueError):
    """Bad input, with all its problems at once.

    Attributes:
        subject: what was being read or built, such as a file name.
        problems: every problem found, in a stable order.
    """

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        self.subject = subject
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(subject, self.problems)

    def __str__(self) -> str:
        return "\n  - ".join([f"{self.subject}:", *map(str, self.problems)])


class ConfigError(ProblemsError):
    """A configuration, override or flag that cannot be honoured."""


class ScanError(ProblemsError):
    """Measured data that are not a valid scan."""


class ScanFileError(ScanError):
    """A file that cannot be read as a scan or a product."""


class ArchiveError(ProblemsError):
    """A model archive that is missing, damaged or does not fit."""


class NotFiniteError(ProblemsError):
    """A network that gives NaN or infinity, on its own account or that of the data: there is nothing to keep of it."""


class DependencyError(PtychoError, RuntimeError):
    """An optional package is not installed; the message holds the install command."""


def raise_if_any(error: type[ProblemsError], subject: str, problems: Iterable[Problem]) -> None:
    """Raise `error` when there is at least one problem."""
    found = tuple(problems)
    if found:
        raise error(subject, found)
