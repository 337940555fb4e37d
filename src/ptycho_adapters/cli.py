"""The command line: parse, call, and turn every ending into an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

import attrs

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.flags import typed_devices
from ptycho_adapters.command_line.links import links_of
from ptycho_adapters.command_line.logs import logs_of
from ptycho_adapters.command_line.parser import Parser, rewritten, unknown_flags
from ptycho_adapters.command_line.streams import any_text
from ptycho_adapters.command_line.usage import UsageError, kebab
from ptycho_adapters.commands import (
    convert,
    evaluate,
    infer,
    inspect,
    live,
    migrate,
    prepare,
    reconstruct,
    refine,
    simulate,
    train,
)
from ptycho_adapters.crew import crew_of, started_crew
from ptycho_core.config.table import INFERENCE, TRAINING, Table
from ptycho_core.errors import DependencyError, ProblemsError, PtychoError
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

DONE, FAILED, WRONG_INPUT = 0, 1, 2
_OF_SIGNAL = 128
_DEBUG = "PTYCHO_DEBUG"
_EPILOG = "Exit codes: 0 done, 2 the input cannot be used, 1 anything else, 143 after SIGTERM, 130 after an interrupt."
_INPUT_ERRORS = (
    ProblemsError,
    UsageError,
    DependencyError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


@attrs.frozen(kw_only=True)
class _Command:
    """One subcommand; `of_run` ones run a model and know its older flags."""

    help: str
    usage: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Mapping[str, object]], None]
    of_run: bool = False


_COMMANDS: Mapping[str, _Command] = MappingProxyType(
    {
        "simulate": _Command(
            help=simulate.HELP, usage=simulate.USAGE, add_arguments=simulate.add_arguments, run=simulate.run
        ),
        "prepare": _Command(
            help=prepare.HELP, usage=prepare.USAGE, add_arguments=prepare.add_arguments, run=prepare.run
        ),
        "reconstruct": _Command(
            help=reconstruct.HELP,
            usage=reconstruct.USAGE,
            add_arguments=reconstruct.add_arguments,
            run=reconstruct.run,
            of_run=True,
        ),
        "train": _Command(
            help=train.HELP, usage=train.USAGE, add_arguments=train.add_arguments, run=train.run, of_run=True
        ),
        "infer": _Command(
            help=infer.HELP, usage=infer.USAGE, add_arguments=infer.add_arguments, run=infer.run, of_run=True
        ),
        "refine": _Command(help=refine.HELP, usage=refine.USAGE, add_arguments=refine.add_arguments, run=refine.run),
        "live": _Command(help=live.HELP, usage=live.USAGE, add_arguments=live.add_arguments, run=live.run, of_run=True),
        "evaluate": _Command(
            help=evaluate.HELP, usage=evaluate.USAGE, add_arguments=evaluate.add_arguments, run=evaluate.run
        ),
        "convert": _Command(
            help=convert.HELP, usage=convert.USAGE, add_arguments=convert.add_arguments, run=convert.run
        ),
        "inspect": _Command(
            help=inspect.HELP, usage=inspect.USAGE, add_arguments=inspect.add_arguments, run=inspect.run
        ),
        "migrate": _Command(
            help=migrate.HELP, usage=migrate.USAGE, add_arguments=migrate.add_arguments, run=migrate.run
        ),
    }
)
_SHARED = frozenset({"train", "infer", "reconstruct"})  # what several processes can do together
_OTHER_RUN: Mapping[str, tuple[str, Table]] = MappingProxyType(
    {"train": ("infer", INFERENCE), "infer": ("train", TRAINING), "reconstruct": ("train", TRAINING)}
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Results go to standard output, everything else to standard error.

    Args:
        argv: arguments; those of the process when None.

    Returns:
        The exit code: 0 done, 2 the user's input is wrong, 1 anything else, 143 after SIGTERM, 130 after an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = " ".join(["ptycho", *arguments[:1]]) if arguments[:1] and arguments[0] in _COMMANDS else "ptycho"
    with any_text():
        try:
            with _signals_as_exits(), console.warnings_on_one_line(), console.notices_told():
                _run(arguments)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else DONE
        except KeyboardInterrupt:
            return _OF_SIGNAL + signal.SIGINT
        except Exception as error:  # noqa: BLE001 - the last frame: whatever it is becomes a message and an exit code
            return _ended(name, error, arguments)
        return DONE


def parse(argv: Sequence[str]) -> tuple[str, dict[str, object]]:
    """Read a command line.

    Args:
        argv: arguments, the command first.

    Returns:
        The command and what was typed: only the flags that were, so that no default passes for a choice.

    Raises:
        UsageError: it cannot be understood.
        SystemExit: help or the version was asked for and printed.
    """
    arguments = list(argv)
    wanted = arguments[0] if arguments else ""
    parser, options = _parsers(wanted)
    if wanted in _COMMANDS:
        of_run = _COMMANDS[wanted].of_run
        arguments[1:] = rewritten(arguments[1:], options, of_run=of_run, warn=console.warn)
    namespace, rest = parser.parse_known_args(arguments)
    typed: dict[str, object] = vars(namespace)
    if rest:
        raise UsageError("; ".join(unknown_flags(rest, options, _elsewhere(wanted))))
    return str(typed.pop("command")), typed


def _elsewhere(wanted: str) -> dict[str, str]:
    """Return the flags of the other command that runs a model."""
    if wanted not in _OTHER_RUN:
        return {}
    other, table = _OTHER_RUN[wanted]
    names = [name for name in table.names for name in (name, f"no_{name}")]
    return dict.fromkeys(map(kebab, names), f"ptycho {other}")


def _run(arguments: Sequence[str]) -> None:
    command, typed = parse(arguments)
    crew, started = crew_of(typed_devices(typed)), started_crew()
    if started.count > 1 and command not in _SHARED:
        others = ", ".join(sorted(_SHARED))
        raise UsageError(
            f"expected one process, found {started.count}; {others} can be shared, or start it without torchrun"
        )
    speaking = nullcontext() if crew.leads else console.silent()
    with speaking, logs_of(command, typed, arguments, rank=crew.rank), links_of(typed):
        _COMMANDS[command].run(typed)


def _parsers(wanted: str) -> tuple[Parser, list[str]]:
    """Build the parser with the flags of the wanted command, and list those; the other commands only have a name."""
    parser = Parser(prog="ptycho", description="Physics-informed ptychography.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"ptycho {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    options: list[str] = []
    for name, command in _COMMANDS.items():
        made = commands.add_parser(
            name, usage=command.usage, help=command.help, description=command.help, epilog=_EPILOG
        )
        if name == wanted:
            command.add_arguments(made)
            made.add_argument("--traceback", action="store_true", help=f"show where it failed, as {_DEBUG}=1 does")
            options = made.options
    return parser, options


def _ended(name: str, error: Exception, arguments: Sequence[str]) -> int:
    """Say what went wrong and return the exit code."""
    if isinstance(error, BrokenPipeError):
        return _OF_SIGNAL + signal.SIGPIPE
    if isinstance(error, UsageError):
        console.note(f"{name}: {error}; see {name} --help")
        return WRONG_INPUT
    if isinstance(error, _INPUT_ERRORS):
        console.note(f"{name}: {_reason(error)}")
        return WRONG_INPUT
    if "--traceback" in arguments or os.environ.get(_DEBUG, "0") not in {"", "0"}:
        console.note("".join(traceback.format_exception(error)).rstrip())
    else:
        text = " ".join(_reason(error).split())
        own = isinstance(error, PtychoError) or (isinstance(error, OSError) and error.strerror)
        kind = "" if own else f"{type(error).__name__}: "
        console.note(f"{name} failed: {kind}{text} (--traceback or {_DEBUG}=1 shows where)")
    return FAILED


def _reason(error: Exception) -> str:
    """Return what went wrong, and with which file where the system says it."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    # Of a copy that fails it is the target that has no room.
    name = error.filename2 if error.errno == errno.ENOSPC and error.filename2 is not None else error.filename
    return error.strerror if name is None else f"{error.strerror}: {os.fsdecode(name)}"


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """Let SIGTERM and SIGINT unwind the stack, so that every temporary file is removed on the way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(_OF_SIGNAL + number)


if __name__ == "__main__":
    sys.exit(main())
