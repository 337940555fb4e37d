"""Tests of the refinement by pty-chi: skipped where it is not installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from ptychi_sample import clean_scan
from ptycho_adapters.ptychi.installation import mend_torchvision

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

REASON = "pty-chi is not installed: make test-ptychi has an environment with it"
PRESENT = importlib.util.find_spec("ptychi") is not None
if PRESENT:
    mend_torchvision()  # before Lightning looks at it


class _Absent(pytest.Module):
    """A module that cannot be run here."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Skip all of it."""
        pytest.skip(REASON, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect a module, unless pty-chi is missing; what has to do without it is run everywhere."""
    if PRESENT or "without" in module_path.name:
        return None
    made: pytest.Module = _Absent.from_parent(parent, path=module_path)
    return made


@pytest.fixture(scope="session")
def clean() -> Scan:
    """One scan for all that change nothing in it."""
    return clean_scan()
