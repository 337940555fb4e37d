"""What pty-chi sets for the whole process, set for a block and put back after it."""

from __future__ import annotations

import logging
import random
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.ptychi.installation import load

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def contained() -> Iterator[None]:
    """Give pty-chi the process for a block: float32 on the CPU, and silence; all is as it was after it, come what may.

    Put back are torch's default type and device and its threads, the generators of torch, NumPy and Python, pty-chi's
    own complex type, FFT precision and determinism, and levels and handlers of logging, and the filters of warnings.

    Raises:
        DependencyError: pty-chi is not installed.
    """
    with ExitStack() as ending:
        ending.callback(_put_back_torch, torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads())
        ending.callback(torch.set_rng_state, torch.get_rng_state())
        ending.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 - it is what pty-chi seeds
        ending.callback(random.setstate, random.getstate())
        utils, maths = load("ptychi.utils"), load("ptychi.maths")
        load("ptychi.api.task")
        ending.callback(utils.set_default_complex_dtype, utils.get_default_complex_dtype())
        ending.callback(maths.set_allow_nondeterministic_algorithms, maths.get_allow_nondeterministic_algorithms())
        ending.callback(maths.set_use_double_precision_for_fft, maths.get_use_double_precision_for_fft())
        ending.enter_context(_quiet())
        ending.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad", category=UserWarning)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device("cpu")
        utils.set_default_complex_dtype(torch.complex64)
        maths.set_use_double_precision_for_fft(False)
        maths.set_allow_nondeterministic_algorithms(False)
        yield


def _put_back_torch(dtype: torch.dtype, device: torch.device, threads: int) -> None:
    torch.set_default_dtype(dtype)
    # Without a default, torch names the CPU; a default of its own would watch every call.
    torch.set_default_device(None if device == torch.device("cpu") else device)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pty-chi's messages back; its calls of `logging.info` would also give the root a handler for good."""
    root, own = logging.getLogger(), [logging.getLogger("ptychi"), logging.getLogger("ptychi.api.task")]
    levels, silent = [logger.level for logger in own], logging.NullHandler()
    root.addHandler(silent)
    own[0].setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.removeHandler(silent)
        for logger, level in zip(own, levels, strict=True):
            logger.setLevel(level)
