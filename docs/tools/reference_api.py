"""Pages of the public names, from their docstrings."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

import ptycho_adapters
import ptycho_core
from ptycho_core.config.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CONTENTS = """# Python

The names that other programs may rely on. Everything else may change between versions.

```{toctree}
api/ptycho_core
api/ptycho_adapters
```
"""
_CORE = "Values in, values out: it reads no file and loads no framework. Arrays are (y, x), units stand in names."
_ADAPTERS = """What touches the world. The first names are offered by `ptycho_adapters` itself, and load what they need
when they are first asked for."""
_GEOMETRY = (
    *("wavelength_from_energy", "wavelength_from_voltage", "energy_from_wavelength", "voltage_from_wavelength"),
    *("object_pixel_m", "detector_pixel_m", "positions_px_from_m", "positions_m_from_px"),
)
FURTHER: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "ptycho_adapters.factory": (
            *("plan_training", "plan_inference", "commit", "infer_probe_size", "populate_legacy_params"),
        ),
        "ptycho_adapters.run": ("run",),
        "ptycho_adapters.legacy": ("get", "set", "update_legacy_dict"),
        "ptycho_adapters.files": (
            *("open_scan", "scan_files", "probe_from_file", "probe_from_model"),
            *("DetectorCheck", "ProbeSetting", "ProbeSource", "ScanFormat"),
        ),
        "ptycho_adapters.torch_backend": (
            *("Generator", "TrainedModel", "register_generator"),
            *("EpochLosses", "ModelRecord", "PriorLaw", "ScanProbe", "Selection", "StepLoss"),
            *("Draft", "Step", "View", "TrainingGroups", "TrainingSet"),
        ),
        "ptycho_adapters.live": ("DetectorSource", "QueueSource", "SwmrSource", "Window", "reconstruct_stream"),
        "ptycho_adapters.torch_backend.legacy_groups": ("GroupStages", "LegacyGroups"),
        "ptycho_adapters.torch_backend.physics.data_consistency": ("Asking",),
        "ptycho_adapters.labelled": ("to_xarray",),
        "ptycho_core.errors": (
            *("PtychoError", "ProblemsError", "Problem", "ConfigError", "ScanError", "ScanFileError", "ArchiveError"),
            "DependencyError",
        ),
        "ptycho_core.memory": ("MemoryShortageError",),
        "ptycho_core.measurement.geometry": _GEOMETRY,
        "ptycho_core.measurement.stream": ("FrameBatch",),
        "ptycho_core.physics.probe_models": (
            *("ElectronLens", "FocusedRectangle", "GaussianBeam", "ProbeFrame", "ProbeModel", "ZonePlate"),
        ),
        "ptycho_core.notebook": ("Picture",),
    }
)
"""Names of single modules that other programs may rely on, beside those that the packages offer."""


def public_names() -> Mapping[str, Sequence[str]]:
    """Return all names that other programs may rely on, by the module that they are imported from."""
    return {"ptycho_core": ptycho_core.__all__, "ptycho_adapters": ptycho_adapters.__all__, **FURTHER}


def pages() -> Mapping[str, str]:
    """Return the pages by their paths."""
    heads = {"ptycho_core": _CORE, "ptycho_adapters": _ADAPTERS}
    made = {f"api/{package}.md": _page(package, head) for package, head in heads.items()}
    return {"api.md": _CONTENTS, **made}


def _page(package: str, head: str) -> str:
    sections = [_section(module, names) for module, names in public_names().items() if module.split(".")[0] == package]
    return f"# {package}\n\n{head}\n\n" + "\n".join(sections)


def _section(module: str, names: Sequence[str]) -> str:
    return f"## {module}: names\n\n```{{eval-rst}}\n" + "\n".join(_directives(module, names)) + "\n```\n"


def _directives(module: str, names: Sequence[str]) -> Iterator[str]:
    home = import_module(module)
    for name in names:
        value = getattr(home, name)
        if inspect.isclass(value):
            # What a record of settings takes has a page of its own.
            settings = "(**settings)" if issubclass(value, Record) else ""
            members = "" if settings else "   :members:\n"
            yield f".. autoclass:: {module}.{name}{settings}\n{members}"
        elif callable(value):
            yield f".. autofunction:: {module}.{name}\n"
        else:
            yield f".. autodata:: {module}.{name}\n   :no-value:\n"
