"""The structure of a network that its settings do not say in full, as an archive's manifest holds it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import attrs

from ptycho_adapters.common.cnn_structure import Activation, CnnStructure, Combination, structure_of
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ptycho_core.config.payload import TrainingPayload

_MOST_CHANNELS, _WIDEST = 256, 4096
_LATER: Mapping[str, object] = {"ring": True}  # where an archive does not say it
_NAMES = tuple(field.name for field in attrs.fields(CnnStructure))


def structure_to_json(structure: CnnStructure | None, payload: TrainingPayload) -> dict[str, object] | None:
    """Give a structure that is another one than its settings would build; else None."""
    if structure is None:
        return None
    usual = structure_of(payload.pt_model_config, payload.pt_data_config)
    return None if structure == usual else attrs.asdict(structure)


def structure_problems(found: object, payload: TrainingPayload, path: str) -> Iterator[Problem]:
    """Look at a structure that an archive holds.

    Args:
        found: out of a manifest.
        payload: the settings beside it, which it must not contradict.
        path: where it stands.
    """
    found = {**_LATER, **found} if isinstance(found, dict) else found
    if not isinstance(found, dict) or found.keys() != {*_NAMES} or payload.pt_model_config.architecture != "cnn":
        expected = f"{', '.join(_NAMES)}, of a cnn"
        yield Problem(path=path, expected=expected, found=repr(found)[:80])
        return
    usual = structure_of(payload.pt_model_config, payload.pt_data_config)
    for name in ("size", "filters_scale", "block_attention", "activation"):
        wanted = getattr(usual, name)
        if type(found[name]) is not type(wanted) or found[name] != wanted:
            yield Problem(path=f"{path}.{name}", expected=f"{wanted!r}, as the settings", found=repr(found[name])[:80])
    for name, (expected, holds) in _RULES.items():
        if not holds(found[name]):
            yield Problem(path=f"{path}.{name}", expected=expected, found=repr(found[name])[:80])


def structure_from_json(found: Mapping[str, object]) -> CnnStructure:
    """Give the structure that was looked at and had no problems."""
    return CnnStructure(**{**_LATER, **found})  # type: ignore[arg-type] # structure_problems has checked every field


def _is_whole(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= largest


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < math.inf


def _is_square(value: object) -> bool:
    return isinstance(value, int) and _is_whole(value, _MOST_CHANNELS) and math.isqrt(value) ** 2 == value


_RULES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "channels": (f"a square of at most {_MOST_CHANNELS}", _is_square),
    "amplitude_channels": (f"1 to {_MOST_CHANNELS}", lambda value: _is_whole(value, _MOST_CHANNELS)),
    "outer_channels": (f"1 to {_WIDEST}", lambda value: _is_whole(value, _WIDEST)),
    "outer_width": (f"1 to {_WIDEST}", lambda value: _is_whole(value, _WIDEST)),
    "ring": ("true or false", lambda value: isinstance(value, bool)),
    "activation": ("an activation", lambda value: value in get_args(Activation)),
    "combination": ("a combination", lambda value: value in get_args(Combination)),
    "input_rms": ("a positive number", _is_positive),
    "object_scale": ("a positive number or null", lambda value: value is None or _is_positive(value)),
}
