"""Everything that touches the world: files, frameworks, the legacy dictionary, the command line.

What most programs need is offered here by name; each name loads its module when it is first asked for, so that
`import ptycho_adapters` loads neither a framework nor a file format.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptycho_adapters.factory import create_inference_payload, create_training_payload
    from ptycho_adapters.files import read_product, read_scan, write_product, write_scan
    from ptycho_adapters.progress import Progress, on_progress
    from ptycho_adapters.torch_backend import generalist_for, load_archive, reconstruct, save_archive, train

__all__ = [
    "Progress",
    "create_inference_payload",
    "create_training_payload",
    "generalist_for",
    "load_archive",
    "on_progress",
    "read_product",
    "read_scan",
    "reconstruct",
    "save_archive",
    "train",
    "write_product",
    "write_scan",
]

# A type checker that saw this function would take any name for one of ours.
if not TYPE_CHECKING:
    _HOMES = {
        "factory": ("create_inference_payload", "create_training_payload"),
        "files": ("read_product", "read_scan", "write_product", "write_scan"),
        "progress": ("Progress", "on_progress"),
        "torch_backend": ("generalist_for", "load_archive", "reconstruct", "save_archive", "train"),
    }

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{home}"), name)
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
