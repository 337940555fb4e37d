"""The table of settings and backends: what each does with each, as Markdown.

`python -m ptycho_core.config.backend_table` prints it, for `docs/backends.md`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, get_args

from ptycho_core.config.backend_limits import LIMITS
from ptycho_core.config.knob import Effect
from ptycho_core.config.shared import Backend
from ptycho_core.config.table import ALL, FieldInfo
from ptycho_core.config.types import describe, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_BACKENDS: tuple[Backend, ...] = get_args(Backend)[::-1]
_NOBODY = {
    Effect.LEGACY: "for legacy consumers",
    Effect.RECORD: "a label",
}


def backend_table() -> str:
    """Return the table, a row for each setting."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| setting | " + " | ".join(_BACKENDS) + " |"
    yield "|---" * (1 + len(_BACKENDS)) + "|"
    for info in sorted(ALL, key=lambda info: info.key):
        yield f"| `{info.key}` | " + " | ".join(verdict(info, backend) for backend in _BACKENDS) + " |"


def verdict(info: FieldInfo, backend: Backend) -> str:
    """Say in Markdown what a backend does with a setting.

    Args:
        info: the setting.
        backend: its name.
    """
    if info.effect in _NOBODY:
        return _NOBODY[info.effect]
    general = "honoured"
    if info.honoured:
        only = " or ".join([*map(_code, info.honoured), *map(describe, info.knob.kinds)])
        built = [name for name in info.knob.part_of if _builds(backend, name)]
        others = f" (any in {' and '.join(built)})" if built else ""
        general = f"{only} alone{others}: {info.knob.why}"
    limit = LIMITS[backend].get(info.key)
    if limit is None:
        return general
    if limit.only:
        return f"{' or '.join(_code(value) for value in limit.only)} alone: {limit.why}"
    return f"honoured, but for {' and '.join(_code(value) for value in limit.never)}: {limit.why}"


def _builds(backend: Backend, architecture: str) -> bool:
    limit = LIMITS[backend].get("architecture")
    return limit is None or limit.honours(architecture)


def _code(value: object) -> str:
    return f"`{shown(value)}`"


if __name__ == "__main__":
    sys.stdout.write(backend_table() + "\n")
