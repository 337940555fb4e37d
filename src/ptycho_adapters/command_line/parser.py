"""The command line's grammar: either hyphens or underscores, older spellings, one message for an error."""

from __future__ import annotations

import argparse
import difflib
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from ptycho_adapters.command_line.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_NO_MLFLOW = "--disable-mlflow"
_OFF = ("--no-enable-progress-bar",)
SPELLINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "--test-data": ("--test-data-file",),
        "--logger": ("--logger-backend",),
        "--accumulate-grad-batches": ("--accum-steps",),
        "--checkpoint-monitor": ("--checkpoint-monitor-metric",),
        "--disable-checkpointing": ("--no-enable-checkpointing",),
        "--quiet": _OFF,
        _NO_MLFLOW: ("--logger-backend=none", *_OFF),
    }
)
"""Other ways to write the flags of a run; a value stays with the flag."""

_OTHER_PROGRAM = "--torch-"


class Switch(argparse.Action):
    """A flag that turns something on, or off in its second form; the first also takes the value in words."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep what was said."""
        negative = option_string == self.option_strings[-1]
        if negative and values is not None:
            parser.error(f"{option_string} takes no value, found {values}")
        setattr(namespace, self.dest, "false" if negative else values or "true")


class Scans(argparse.Action):
    """A flag for a scan that may be typed several times: the last one is kept as that of any flag, all as `scans`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep what was said."""
        del parser, option_string
        namespace.scans = [*getattr(namespace, "scans", []), values]
        setattr(namespace, self.dest, values)


class _HelpFormatter(argparse.HelpFormatter):
    """Shows a switch as two words instead of with its rarely used values."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, Switch):
            return ", ".join(action.option_strings)
        return super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions."""

    def __init__(
        self,
        *,
        prog: str | None = None,
        usage: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)

    @property
    def options(self) -> list[str]:
        """Every flag."""
        return list(self._option_string_actions)


def rewritten(
    arguments: Sequence[str], known: Sequence[str], *, of_run: bool, warn: Callable[[str], None]
) -> list[str]:
    """Return the arguments with every flag in its own spelling.

    Args:
        arguments: what was typed after the command.
        known: the command's flags.
        of_run: whether the command runs a model, so that other spellings of a run's flags apply.
        warn: told about deprecated flags.
    """
    result: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*result, argument, *rest]
        if not argument.startswith("--"):
            result.append(argument)
            continue
        name, equals, value = argument.partition("=")
        first, *others = _spelled(name.replace("_", "-"), known, of_run=of_run, warn=warn)
        result += [first + equals + value, *others]
    return result


def _spelled(flag: str, known: Sequence[str], *, of_run: bool, warn: Callable[[str], None]) -> tuple[str, ...]:
    if not of_run:
        return (flag,)
    if flag.startswith(_OTHER_PROGRAM) and flag not in known:
        flag = "--" + flag.removeprefix(_OTHER_PROGRAM)
        warn(f"{_OTHER_PROGRAM}{flag[2:]} is deprecated, use {flag}")
    if flag == _NO_MLFLOW:
        warn(f"{_NO_MLFLOW} is deprecated, use --logger none --quiet")
    return SPELLINGS.get(flag, (flag,))


def unknown_flags(rest: Sequence[str], known: Sequence[str], elsewhere: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each argument that means nothing, with the flags that look like it.

    Args:
        rest: arguments that were not understood.
        known: the command's flags.
        elsewhere: flags of other commands, with the command.
    """
    after_flag = False
    for argument in rest:
        name = argument.partition("=")[0]
        if name in elsewhere:
            yield f"{name} belongs to {elsewhere[name]}"
        elif name.startswith("-"):
            others = [own for own, meant in SPELLINGS.items() if all(flag.partition("=")[0] in known for flag in meant)]
            near = difflib.get_close_matches(name, [*known, *others], n=3)
            yield f"{name} is not a flag of this command" + (f"; did you mean {' or '.join(near)}?" if near else "")
        elif not after_flag:
            yield f"unexpected {argument!r}"
        after_flag = name.startswith("-")
