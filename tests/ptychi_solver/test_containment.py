"""What pty-chi sets for the process is put back."""

from __future__ import annotations

import logging
import random
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ptychi_sample import truth_of
from ptycho_adapters.ptychi.containment import contained
from ptycho_adapters.ptychi.engines import RefineSettings
from ptycho_adapters.ptychi.installation import load
from ptycho_adapters.ptychi.solver import Solver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.measurement.scan import Scan


def state() -> list[object]:
    """Everything that pty-chi is known to set."""
    utils, maths, root = load("ptychi.utils"), load("ptychi.maths"), logging.getLogger()
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),  # noqa: NPY002 - it is what pty-chi seeds
        random.getstate(),
        utils.get_default_complex_dtype(),
        maths.get_use_double_precision_for_fft(),
        maths.get_allow_nondeterministic_algorithms(),
        list(root.handlers),
        list(warnings.filters),
        logging.getLogger("ptychi").level,
        logging.getLogger("ptychi.api.task").level,
    ]


@pytest.fixture
def unusual() -> Iterator[None]:
    """A process that is not as pty-chi wants it."""
    dtype = torch.get_default_dtype()
    load("ptychi.api.task")
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(dtype)


@pytest.mark.usefixtures("unusual")
def test_a_run_leaves_the_process_as_it_was(clean: Scan) -> None:
    """Building a task and an epoch change nothing that others see, in whatever state the process was."""
    before = state()

    Solver(clean, truth_of(clean), RefineSettings(seed=5)).step()

    assert state() == before


@pytest.mark.usefixtures("unusual")
def test_an_error_leaves_the_process_as_it_was() -> None:
    """So does a block that fails after everything was changed."""
    before = state()

    def fail() -> None:
        with contained():
            torch.manual_seed(1)
            torch.set_default_dtype(torch.float16)
            load("ptychi.maths").set_use_double_precision_for_fft(True)
            logging.getLogger("ptychi").setLevel(logging.CRITICAL)
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()

    assert state() == before


def test_it_is_silent(clean: Scan, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither its messages nor its bars reach the user."""
    Solver(clean, truth_of(clean), RefineSettings()).step()

    assert capsys.readouterr() == ("", "")
