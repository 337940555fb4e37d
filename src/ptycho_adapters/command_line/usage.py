"""Errors in what was typed, and settings problems in the words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import EVERY
from ptycho_core.errors import ConfigError, Problem, PtychoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ptycho_core.config.table import Table

_WHERE = frozenset(map(str, Layer)) | {record.__name__ for record in EVERY}
_MISSING_GROUPS = "n_groups is required: add --n-groups"


class UsageError(PtychoError, ValueError):
    """A command line that cannot be understood; the message names the flag."""


def kebab(name: str) -> str:
    """Return the flag of a setting."""
    return "--" + name.replace("_", "-")


def in_flags(error: ConfigError, table: Table, typed: Iterable[str], files: Mapping[Layer, Path]) -> ConfigError:
    """Return the same problems with flags, files and their keys instead of layers and records.

    Args:
        error: from the resolver.
        table: the settings of the command.
        typed: names that the user wrote on the command line.
        files: those that speak for a layer.
    """
    spelled = {table.key(name) or name: name for name in typed}

    def flag(name: str) -> str:
        key = table.key(name) or name
        return kebab(name if name in typed else spelled.get(key, key))

    def moved(problem: Problem) -> Problem:
        layer, dot, name = problem.path.partition(".")
        if not dot:
            fix = _MISSING_GROUPS if problem.fix.startswith("n_groups is required") else problem.fix
            return attrs.evolve(problem, path=flag(layer), fix=fix)
        if layer == Layer.FILE:
            return attrs.evolve(problem, path=f"{files[Layer.FILE]}: {name}")
        if layer in {Layer.SCAN, Layer.ARCHIVE}:
            return attrs.evolve(problem, path=f"{name}, as {files.get(Layer(layer), f'the {layer}')} says")
        return attrs.evolve(problem, path=flag(name) if layer in _WHERE else problem.path)

    return ConfigError("these settings cannot be used", [moved(problem) for problem in error.problems])
