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
FURTHER: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "ptycho_adapters.factory": (
            *("plan_training", "plan_inference", "commit", "infer_probe_size", "populate_legacy_params"),
        ),
        "ptycho_adapters.run": ("run",),
        "ptycho_adapters.legacy": ("get", "set", "update_legacy_dict"),
        "ptycho_adapters.files": ("probe_from_file", "probe_from_model", "scan_files"),
        "ptycho_adapters.torch_backend": ("Generator", "TrainedModel", "register_generator"),
        "ptycho_adapters.labelled": ("to_xarray",),
    }
)
"""Names of single modules that other programs may rely on, beside those that the packages offer."""


def pages() -> Mapping[str, str]:
    """Return the pages by their paths."""
    adapters = [_section("ptycho_adapters", ptycho_adapters.__all__)]
    adapters += [_section(module, names) for module, names in FURTHER.items()]
    return {
        "api.md": _CONTENTS,
        "api/ptycho_core.md": f"# ptycho_core\n\n{_CORE}\n\n" + _section("ptycho_core", ptycho_core.__all__),
        "api/ptycho_adapters.md": f"# ptycho_adapters\n\n{_ADAPTERS}\n\n" + "\n".join(adapters),
    }


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
