"""Pages of the commands, from their parsers."""

from __future__ import annotations

import argparse
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from markdown_pieces import code, plain, table
from ptycho_adapters import commands
from ptycho_adapters.command_line.parser import Parser, Switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_CONTENTS = """# Commands

`ptycho COMMAND --help` says the same in a terminal. Every command also takes `--traceback`, and `ptycho --version`
says which version it is. Results go to standard output, everything else to standard error. Exit codes: 0 done, 2 the
input cannot be used, 1 anything else, 143 after SIGTERM, 130 after an interrupt.

{summary}

```{{toctree}}
:hidden:

{names}
```
"""
_RUN = """
Settings that can be given to no effect, and other names of those above, are taken too: [all settings](../settings.md).
"""


def pages() -> Mapping[str, str]:
    """Return the pages by their paths."""
    found = names()
    rows = [(f"[`ptycho {name}`](commands/{name}.md)", plain(_said(name, "HELP"))) for name in found]
    listed = "\n".join(f"commands/{name}" for name in found)
    made = {f"commands/{name}.md": _page(name) for name in found}
    return {"commands.md": _CONTENTS.format(summary=table(("command", "what it does"), rows), names=listed), **made}


def names() -> tuple[str, ...]:
    """Return the commands, each of which is a module."""
    return tuple(module.name for module in pkgutil.iter_modules(commands.__path__))


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command, as the command makes it."""
    parser = Parser(prog=f"ptycho {name}")
    add: Callable[[argparse.ArgumentParser], None] = import_module(f"{commands.__name__}.{name}").add_arguments
    add(parser)
    return parser


def _said(name: str, what: str) -> str:
    return str(getattr(import_module(f"{commands.__name__}.{name}"), what))


def _page(name: str) -> str:
    usage = "\n".join(line.strip() for line in _said(name, "USAGE").splitlines())
    head = f"# ptycho {name}\n\n{plain(_said(name, 'HELP')).capitalize()}.\n\n```text\n{usage}\n```\n"
    return head + "".join(_groups(parser_of(name))) + (_RUN if name in {"train", "infer"} else "")


def _groups(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:  # noqa: SLF001 - argparse has no other way to ask
        actions = [action for action in group._group_actions if _shown(action)]  # noqa: SLF001
        if not actions:
            continue
        title = str(group.title).capitalize()
        rows = [(_spelled(action), plain(str(action.help) % vars(action))) for action in actions]
        yield f"\n## {title}\n\n" + table(("flag", "what"), rows) + "\n"


def _spelled(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(str(action.metavar or action.dest))
    value = "" if action.nargs == 0 or isinstance(action, Switch) else f" {_value(action)}"
    return ", ".join(code(option + value) for option in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _shown(action: argparse.Action) -> bool:
    return action.help is not argparse.SUPPRESS and action.dest != "help"
