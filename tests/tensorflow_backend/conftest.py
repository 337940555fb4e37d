"""Tests of the TensorFlow backend: skipped where TensorFlow is not installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

REASON = "TensorFlow is not installed: make test-tensorflow has an environment with it"


class _Absent(pytest.Module):
    """A module that cannot be imported here."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Skip all of it."""
        pytest.skip(REASON, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect a module, unless TensorFlow is missing."""
    if importlib.util.find_spec("tensorflow") is not None:
        return None
    made: pytest.Module = _Absent.from_parent(parent, path=module_path)
    return made


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """No graphs: for a few steps their tracing takes longer than they do."""
    import tensorflow as tf  # noqa: PLC0415 - it may be missing

    tf.config.run_functions_eagerly(run_eagerly=True)
    yield
    tf.config.run_functions_eagerly(run_eagerly=False)


@pytest.fixture
def in_graphs() -> Iterator[None]:
    """Graphs, whatever the tests before this one wanted."""
    import tensorflow as tf  # noqa: PLC0415 - it may be missing

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(run_eagerly=False)
    yield
    tf.config.run_functions_eagerly(run_eagerly=before)
