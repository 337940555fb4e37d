"""Flags that say where a probe comes from when a scan's file has none."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.files import probe_from_file, probe_from_model
from ptycho_core.physics.probe_models import ElectronLens, FocusedRectangle, GaussianBeam, ProbeModel, ZonePlate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ptycho_adapters.files import ProbeSource

FILE_FLAG, MODEL_FLAG = "--probe", "--probe-model"
_MODELS: Mapping[str, type[ZonePlate | GaussianBeam | FocusedRectangle | ElectronLens]] = MappingProxyType(
    {"zone-plate": ZonePlate, "gaussian": GaussianBeam, "rectangle": FocusedRectangle, "stem": ElectronLens}
)


def add_probe_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser the two flags; at most one of them may be used."""
    parser.add_argument(
        FILE_FLAG,
        metavar="FILE",
        help="take the probe of this file (HDF5, CXI, NPZ, npy, TIFF) instead of the scan's own",
    )
    spelled = "; ".join(_spelled(name) for name in _MODELS)
    parser.add_argument(
        MODEL_FLAG,
        metavar="MODEL,LENGTH=METRES,...",
        help=f"compute the probe from the optics instead; in brackets what may be left out: {spelled}",
    )


def probe_source(typed: Mapping[str, object]) -> ProbeSource | None:
    """Return what the two flags mean; None where neither was typed.

    Raises:
        UsageError: both were typed, or a model cannot be understood.
        FileNotFoundError: there is no such file.
        ScanFileError: the file holds no probe.
    """
    file, model = typed.get("probe"), typed.get("probe_model")
    if file is not None and model is not None:
        raise UsageError(f"{FILE_FLAG} and {MODEL_FLAG}: only one can be the probe")
    if model is not None:
        return probe_from_model(read_model(str(model)))
    return None if file is None else probe_from_file(Path(str(file)))


def read_model(text: str) -> ProbeModel:
    """Read a model as it is typed: its name, then lengths by name, with commas between.

    Raises:
        UsageError: it is no model, or its lengths are not those of the model.
    """
    name, *lengths = [part.strip() for part in text.split(",")]
    if name not in _MODELS:
        raise UsageError(f"{MODEL_FLAG}: expected {' or '.join(_MODELS)}, found {name!r}")
    fields = {field.name: field for field in attrs.fields(_MODELS[name])}
    values: dict[str, float] = {}
    for length in lengths:
        key, _, number = length.partition("=")
        attribute = key.strip().replace("-", "_")
        if attribute not in fields or attribute in values:
            near = difflib.get_close_matches(attribute, fields, n=1)
            hint = f"; did you mean {near[0].replace('_', '-')}?" if near and near[0] not in values else ""
            raise UsageError(f"{MODEL_FLAG}: {key!r} cannot be given here{hint} Usage: {_spelled(name)}")
        values[attribute] = _metres(key, number)
    missing = [key for key, field in fields.items() if field.default is attrs.NOTHING and key not in values]
    if missing:
        wanted = ", ".join(key.replace("_", "-") for key in missing)
        raise UsageError(f"{MODEL_FLAG}: {name} needs {wanted}. Usage: {_spelled(name)}")
    return _MODELS[name](**values)


def _spelled(name: str) -> str:
    """Return how a model is typed."""
    parts = []
    for field in attrs.fields(_MODELS[name]):
        part = f",{field.name.replace('_', '-')}=…"
        parts.append(part if field.default is attrs.NOTHING else f"[{part}]")
    return name + "".join(parts)


def _metres(key: str, number: str) -> float:
    try:
        return float(number)
    except ValueError:
        unit = "radians" if key.strip().endswith("rad") else "metres"
        raise UsageError(f"{MODEL_FLAG}: {key}: expected a number of {unit}, found {number!r}") from None
