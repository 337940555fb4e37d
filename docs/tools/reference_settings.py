"""Pages of the settings, from the field table."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from markdown_pieces import code, plain
from ptycho_adapters.setting_sections import SECTIONS, section_of
from ptycho_core.config.backend_table import verdict
from ptycho_core.config.knob import Effect, Phase
from ptycho_core.config.shared import Backend
from ptycho_core.config.table import fields
from ptycho_core.config.types import describe, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_core.config.table import FieldInfo

_CONTENTS = """# Settings

A setting has one meaning and may have several names. On the command line it is a flag, `batch_size` is
`--batch-size`; in a file for `--config` and in `overrides={{}}` of Python it is a key. Higher layers win: flags and
overrides, configuration file, model archive, scan, defaults; `--print-config` says which did. "Needed" stands for a
default where there is none.

```{{toctree}}
{names}
```
"""
_READERS: Mapping[Phase, str] = {
    Phase.BOTH: "trainings and reconstructions",
    Phase.TRAINING: "trainings",
    Phase.RECONSTRUCTION: "reconstructions",
}
_NEEDED = frozenset({"train_data_file", "test_data_file", "output_dir", "n_groups"})


def pages() -> Mapping[str, str]:
    """Return the pages by their paths."""
    made = {f"settings/{section}.md": _page(section) for section in SECTIONS}
    return {"settings.md": _CONTENTS.format(names="\n".join(name.removesuffix(".md") for name in made)), **made}


def _page(section: str) -> str:
    held = sorted((info for info in fields() if section_of(info) == section), key=lambda info: info.key)
    return "\n".join([f"# Settings: {SECTIONS[section]}\n", *("\n".join(_entry(info)) for info in held)])


def _entry(info: FieldInfo) -> Iterator[str]:
    yield f"## {info.key}\n\n{plain(info.doc).rstrip('.').capitalize()}.\n"
    yield f"- *Value:* {_values(info)}"
    yield f"- *Default:* {'needed' if info.key in _NEEDED else code(shown(info.default))}"
    if info.aliases:
        deprecated = {alias.name for alias in info.knob.aliases if alias.deprecated}
        names = (code(name) + (" (deprecated)" if name in deprecated else "") for name in info.aliases)
        yield f"- *Other names:* {', '.join(names)}"
    yield f"- *Read by:* {_reader(info)}"
    yield from (f"- *{name}:* {verdict(info, name)}" for name in get_args(Backend)[::-1] if _acts(info))
    yield f"- *Held by:* {', '.join(code(f'{owner.record.__name__}.{owner.attribute}') for owner in info.owners)}\n"


def _values(info: FieldInfo) -> str:
    rules = "".join(f"; {rule.expected}" for rule in info.knob.rules)
    unit = f", in {info.unit}" if info.unit else ""
    return plain(describe(info.annotation) + rules + unit)


def _reader(info: FieldInfo) -> str:
    if info.effect is Effect.LEGACY:
        return "consumers of the legacy parameter dictionary; nothing here"
    if info.effect is Effect.RECORD:
        return "people: it is a label in archives and logs"
    return _READERS[info.phase]


def _acts(info: FieldInfo) -> bool:
    return info.effect in {Effect.RUN, Effect.FIXED}
