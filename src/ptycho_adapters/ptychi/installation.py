"""The packages of pty-chi: loading them, and what to say where they are missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING

from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from types import ModuleType

INSTALL = (
    "pip install 'ptycho-core[ptychi]', or beside a torch that is to stay: "
    "pip install --no-deps ptychi==2.2.0 torchvision scikit-learn joblib threadpoolctl cloudpickle narwhals && "
    "pip install pandas pydantic"
)
_NEEDED = ("ptychi", "torchvision", "sklearn", "pandas", "pydantic")
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT: list[object] = []


def require() -> None:
    """Ask whether pty-chi can be imported, without importing it.

    Raises:
        DependencyError: a package is missing; the message says what to install.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise DependencyError(f"refinement by pty-chi was asked for, and {names} cannot be imported: {INSTALL}")


def load(name: str) -> ModuleType:
    """Import a module of pty-chi.

    Raises:
        DependencyError: a package is missing.
    """
    require()
    mend_torchvision()
    return importlib.import_module(name)


def version() -> str:
    """Version of pty-chi."""
    return importlib.metadata.version("ptychi")


def mend_torchvision() -> None:
    """Where torchvision cannot load its own operators, as its CUDA build on a CPU, declare those it names.

    None of them is called by anything here; but pty-chi and Lightning's metrics import torchvision where it is.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = importlib.import_module("torch").library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        _KEPT.append(library)  # a library that is collected takes its operators along
        importlib.import_module("torchvision")
