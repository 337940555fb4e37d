"""How an execution record becomes TensorFlow's threads, determinism and device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import tensorflow as tf

from ptycho_adapters.crew import started_crew
from ptycho_adapters.machine import ProcessorWatch
from ptycho_core.errors import ConfigError, DependencyError, Problem
from ptycho_core.processors import threads_for

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ptycho_core.config import PyTorchExecutionConfig

_THREAD_NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # who set one of them has decided


def check_hardware(execution: PyTorchExecutionConfig) -> None:
    """Refuse what the machine cannot do before anything is built.

    Raises:
        ConfigError: several processes were started together, each of which would write the same files.
        DependencyError: the accelerator is asked for and not there.
    """
    count = started_crew().count
    if count > 1:
        problem = Problem(
            path="devices",
            expected="one process, with backend tensorflow",
            found=f"{count} that were started together",
            fix="start it without torchrun; backend pytorch shares a run among them",
        )
        raise ConfigError("execution", [problem])
    if execution.accelerator in ("gpu", "cuda") and not tf.config.list_physical_devices("GPU"):
        message = f"accelerator={execution.accelerator!r}: no such device is available here; use 'auto' or 'cpu'"
        raise DependencyError(message)


def device_of(execution: PyTorchExecutionConfig) -> AbstractContextManager[object]:
    """Place what is computed in a block on the device; `auto` takes a GPU, then the CPU.

    Raises:
        ConfigError: several processes were started together.
        DependencyError: the accelerator is asked for and not there.
    """
    check_hardware(execution)
    found: AbstractContextManager[object] = tf.device("/GPU:0" if works_on_gpu(execution) else "/CPU:0")
    return found


def works_on_gpu(execution: PyTorchExecutionConfig) -> bool:
    """Tell whether what is computed is placed on a GPU."""
    return execution.accelerator != "cpu" and bool(tf.config.list_physical_devices("GPU"))


def prepare_process(execution: PyTorchExecutionConfig) -> None:
    """Set TensorFlow's threads and determinism, which hold for the whole process.

    Raises:
        ConfigError: another number of threads is asked for than TensorFlow runs with already.
    """
    if execution.deterministic is True:
        tf.config.experimental.enable_op_determinism()
    wanted = execution.num_threads or _threads_of_machine()
    if tf.config.threading.get_intra_op_parallelism_threads() == wanted:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(wanted)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        if execution.num_threads is None:
            return
        now = tf.config.threading.get_intra_op_parallelism_threads()
        problem = Problem(
            path="num_threads",
            expected=f"{now or 'none'}, which TensorFlow runs with in this process",
            found=str(wanted),
            fix="it takes a number once, before anything is computed: start a new process",
        )
        raise ConfigError("execution", [problem]) from error


def _threads_of_machine() -> int:
    """Take the number of the environment, or one thread for each core that other work leaves free."""
    for name in _THREAD_NUMBERS:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return threads_for(ProcessorWatch().look(), os.cpu_count() or 1)
