"""Warnings point at the line of the program that called, however deep inside of the library they arise."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ptycho_core import InferenceConfig, ModelConfig, TrainingConfig, resolve_inference, resolve_training
from ptycho_core.callers import warn_caller
from ptycho_core.config import evolve
from ptycho_core.config.overrides import Layer, resolve
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, ScanFacts
from ptycho_core.config.serialize import structure, unstructure
from ptycho_core.config.table import TRAINING

if TYPE_CHECKING:
    from collections.abc import Callable

SCAN = ScanFacts(path=Path("scan.npz"), N=64)
OLD: dict[str, object] = {"n_images": 8}
FIELDS = unstructure(TrainingConfig(model=ModelConfig()))

CALLS: dict[str, Callable[[], object]] = {
    "training": lambda: resolve_training(SCAN, OLD, output_dir=Path("out")),
    "reconstruction": lambda: resolve_inference(
        InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("m"))), OLD, output_dir=Path("out")
    ),
    "layers": lambda: resolve({Layer.CLI: OLD}, TRAINING),
    "record": lambda: TrainingConfig(model=ModelConfig(), n_images=8),
    "reconstruction record": lambda: InferenceConfig(
        model=ModelConfig(), model_path=Path("m"), test_data_file=Path("t"), n_images=8
    ),
    "record from a file": lambda: structure(TrainingConfig, {**FIELDS, "n_groups": 8, "n_images": 8}),
    "changed record": lambda: evolve(TrainingConfig(model=ModelConfig(), n_groups=8), n_images=8),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_deprecated_name_is_told_where_it_is_used(call: Callable[[], object]) -> None:
    """File and line are those of the call."""
    first = inspect.getsourcelines(call)[1]

    with pytest.warns(DeprecationWarning, match="n_images is deprecated, use n_groups") as caught:
        call()

    assert [warning.filename for warning in caught] == [__file__]
    assert first <= caught[0].lineno <= first + 3


PROGRAM = """
from pathlib import Path
from ptycho_adapters.factory import create_training_payload
from ptycho_core import ModelConfig, TrainingConfig
import sys

create_training_payload(sys.argv[1], sys.argv[2], {"n_images": 8})
TrainingConfig(model=ModelConfig(), n_images=8)
"""


def test_a_script_is_told_under_python_s_own_filters(tmp_path: Path) -> None:
    """Without any option, each use in a script shows once, with its line."""
    from factory_samples import write_scan_file  # noqa: PLC0415 - its only use

    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    scan = write_scan_file(tmp_path / "scan.npz")

    run = subprocess.run(
        [sys.executable, str(script), str(scan), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )

    told = [line for line in run.stderr.splitlines() if "DeprecationWarning" in line]
    assert told == [f"{script}:{line}: DeprecationWarning: n_images is deprecated, use n_groups" for line in (7, 8)]


def test_a_thread_that_starts_in_the_library_still_warns() -> None:
    """Where nobody outside has called, the outermost frame is named."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=warn_caller, args=("said", UserWarning))
        thread.start()
        thread.join()

    assert [(str(warning.message), warning.category) for warning in caught] == [("said", UserWarning)]
    assert caught[0].filename == threading.__file__
