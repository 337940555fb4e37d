"""Flags generated from the field table: one per setting and per alias, absent unless typed."""

from __future__ import annotations

from argparse import SUPPRESS
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line.parser import Switch
from ptycho_adapters.command_line.text_values import is_switch, placeholder, read_text
from ptycho_adapters.command_line.usage import kebab
from ptycho_adapters.setting_sections import SECTIONS, section_of
from ptycho_adapters.wording import shown_value
from ptycho_core.config.shared import DEVICES
from ptycho_core.config.table import FieldInfo
from ptycho_core.config.types import choices

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from ptycho_core.config.table import Table

_DEST = "setting "  # no option of a command has a space in its name
_NOTHING: Mapping[str, type[argparse.Action] | None] = MappingProxyType({})


@attrs.frozen(kw_only=True, eq=False)
class Flag:
    """One name on the command line.

    Attributes:
        name: key or alias.
        info: the setting that it stands for.
        annotation: type of the values in this name's spelling.
    """

    name: str
    info: FieldInfo
    annotation: object

    @property
    def dest(self) -> str:
        """Where the parser keeps what was typed."""
        return dest_of(self.name)


def dest_of(name: str) -> str:
    """Return where the parser keeps what was typed for a setting."""
    return _DEST + name


def flags(table: Table) -> tuple[Flag, ...]:
    """Return the flags of a table's settings, aliases after their key."""
    return tuple(
        Flag(name=name, info=info, annotation=_annotation(name, info)) for info in table for name in names_of(info)
    )


def names_of(info: FieldInfo) -> tuple[str, ...]:
    """Return a setting's key and aliases."""
    return (info.key, *info.aliases)


def add_flags(
    parser: argparse.ArgumentParser,
    table: Table,
    *,
    shown: Callable[[FieldInfo], bool],
    hints: Mapping[str, str],
    own: Mapping[str, type[argparse.Action] | None] = _NOTHING,
) -> None:
    """Give a parser one flag per key and alias.

    Args:
        parser: of the command.
        table: the command's settings.
        shown: which settings appear in the help; the others are accepted all the same, for the resolver to judge.
        hints: what the help says instead of a default, by key.
        own: by key, how a command keeps what is typed after its flag; None where the command has that flag already.
    """
    wanted = {section_of(info) for info in table if shown(info)}
    groups = {section: parser.add_argument_group(SECTIONS[section]) for section in SECTIONS if section in wanted}
    for flag in flags(table):
        visible = flag.name == flag.info.key and shown(flag.info)
        target = groups[section_of(flag.info)] if visible else parser
        help_text = _help(flag.info, hints.get(flag.info.key)) if visible else SUPPRESS
        action = own.get(flag.info.key, "store")
        if action is not None:
            _add(target, flag, help_text, action)


def read_flags(typed: Mapping[str, object], table: Table) -> dict[str, object]:
    """Return the settings that were typed, by the name they were typed under; nothing else.

    Args:
        typed: what the parser kept.
        table: the command's settings.
    """
    return {flag.name: read_text(str(typed[flag.dest]), flag.annotation) for flag in flags(table) if flag.dest in typed}


def typed_devices(typed: Mapping[str, object]) -> str:
    """Return on how many devices a run is to be, as it was typed; one where nothing was."""
    names = ("devices", *(alias.name for alias in DEVICES.aliases))
    return str(next((typed[_DEST + name] for name in names if _DEST + name in typed), 1))


def can_be_chosen(info: FieldInfo) -> bool:
    """Tell whether a setting has more than one value that some run honours."""
    return len(info.honoured) != 1 or bool(info.knob.part_of)


def _annotation(name: str, info: FieldInfo) -> object:
    """Type of a name's values: that of the record field with this very name, else of the key."""
    for owner in info.owners:
        if owner.attribute == name != info.key:
            found: object = getattr(attrs.fields(owner.record), name).type
            return found
    return info.annotation


def _add(target: argparse._ActionsContainer, flag: Flag, help_text: str, action: type[argparse.Action] | str) -> None:
    option = kebab(flag.name)
    if is_switch(flag.annotation):
        words = [str(choice) for choice in choices(flag.annotation)]
        names = (option, kebab("no_" + flag.name))
        metavar = "|".join(["yes", "no", *words])
        target.add_argument(
            *names, dest=flag.dest, default=SUPPRESS, action=Switch, nargs="?", help=help_text, metavar=metavar
        )
    else:
        target.add_argument(
            option,
            dest=flag.dest,
            default=SUPPRESS,
            action=action,
            help=help_text,
            metavar=placeholder(flag.annotation),
        )


def _help(info: FieldInfo, hint: str | None) -> str:
    unit = f" [{info.unit}]" if info.unit else ""
    default = hint if hint is not None else f"default: {shown_value(info.default)}"
    others = [kebab(alias.name) for alias in info.knob.aliases if not alias.deprecated]
    also = f"; also {', '.join(others)}" if others else ""
    return f"{info.doc}{unit} ({default}{also})".replace("%", "%%")
