"""The package's own names: where they come from, and what asking for none of them costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import ptycho_adapters
from ptycho_adapters.torch_requirements import needs
from test_missing_torch import FRAMEWORKS, python_without

if TYPE_CHECKING:
    from pathlib import Path

HOMES = {
    "factory": ["create_inference_payload", "create_training_payload"],
    "files": ["read_product", "read_scan", "write_product", "write_scan"],
    "progress": ["Progress", "on_progress"],
    "torch_backend": ["generalist_for", "load_archive", "reconstruct", "save_archive", "train"],
}
NAMES = sorted(name for names in HOMES.values() for name in names)
HEAVY = {"torch", "lightning", "tensorflow", "h5py", "matplotlib", "scipy", "skimage"}


def loaded_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after some code."""
    listed = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def test_the_package_alone_loads_nothing_heavy() -> None:
    """Neither its import nor a look at what it offers."""
    loaded = loaded_after("import ptycho_adapters\ndir(ptycho_adapters)")

    assert "ptycho_adapters" in loaded
    assert not loaded & HEAVY


def test_reading_a_file_needs_no_framework() -> None:
    """A name loads the module that it stands in and no other."""
    loaded = loaded_after("from ptycho_adapters import read_scan, write_product, create_training_payload")

    assert {"ptycho_adapters.files", "ptycho_adapters.factory"} <= loaded
    assert not loaded & {"torch", "lightning", "tensorflow", "matplotlib", "ptycho_adapters.torch_backend"}


@pytest.mark.parametrize("home", HOMES)
def test_every_name_is_that_of_its_home(home: str) -> None:
    """The same object, under whichever name it is imported."""
    module = import_module(f"ptycho_adapters.{home}")

    for name in HOMES[home]:
        assert getattr(ptycho_adapters, name) is getattr(module, name)


def test_the_names_are_listed() -> None:
    """For `from ptycho_adapters import *` and for who completes names."""
    assert sorted(ptycho_adapters.__all__) == NAMES
    assert {*NAMES} <= {*dir(ptycho_adapters)}


def test_any_other_name_is_refused_as_in_every_module() -> None:
    """With the words that Python has for it, so that submodules are still found."""
    with pytest.raises(AttributeError, match="module 'ptycho_adapters' has no attribute 'retrain'"):
        ptycho_adapters.retrain  # type: ignore[attr-defined]  # noqa: B018

    assert loaded_after("from ptycho_adapters import legacy") >= {"ptycho_adapters.legacy"}


def test_a_name_that_needs_torch_says_how_to_install_it(tmp_path: Path) -> None:
    """The error is that of the backend, and the names that need no torch work beside it."""
    code = "from ptycho_adapters import read_scan\n"
    for name in HOMES["torch_backend"]:
        code += f"try:\n    from ptycho_adapters import {name}\nexcept RuntimeError as error:\n    print(error)\n"

    done = python_without(tmp_path, FRAMEWORKS, "-c", code)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(needs("torch"))] * len(HOMES["torch_backend"])
