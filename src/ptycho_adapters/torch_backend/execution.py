"""How an execution record becomes Trainer arguments, a device and a logger."""

from __future__ import annotations

import importlib.util
import os
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, TypedDict, assert_never

import torch
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from torch.nn.modules.module import register_module_forward_pre_hook

from ptycho_adapters.machine import ProcessorWatch
from ptycho_core.callers import warn_caller
from ptycho_core.errors import ConfigError, DependencyError, Problem
from ptycho_core.processors import threads_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lightning.pytorch.strategies import Strategy

    from ptycho_adapters.crew import Crew
    from ptycho_core.config import PyTorchExecutionConfig, TorchTrainingConfig
    from ptycho_core.processors import Processors

FixedPrecision = Literal["32-true", "16-mixed", "bf16-mixed"]
LOG_FOLDER = "lightning_logs"
MLFLOW_FOLDER = "mlruns"
_THREAD_NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # who set one of them has decided
_FIRST_LOOK_S, _LOOK_EVERY_S = 0.3, 1.0  # the system counts in hundredths of a second
_BFLOAT16_OF_CPUS = ("avx512_bf16", "amx_bf16")
_NO_BFLOAT16 = (
    "precision 'bf16-mixed' on a processor without instructions for bfloat16, where convolutions may take a hundred "
    "times as long: precision 'auto' takes 32-true here"
)
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # Lightning sets it for deterministic runs


class TrainerArguments(TypedDict):
    """Arguments of `lightning.Trainer` that come from the execution record and the processes alone."""

    accelerator: str
    devices: int | Literal["auto"]
    num_nodes: int
    strategy: str | Strategy
    precision: FixedPrecision
    deterministic: bool | Literal["warn"]
    accumulate_grad_batches: int
    enable_checkpointing: bool
    enable_progress_bar: bool
    enable_model_summary: bool
    log_every_n_steps: int
    num_sanity_val_steps: int
    use_distributed_sampler: bool


def trainer_arguments(execution: PyTorchExecutionConfig, crew: Crew) -> TrainerArguments:
    """Translate an execution record.

    Args:
        execution: the record.
        crew: the processes that train.

    Raises:
        DependencyError: the accelerator's package is not installed.
    """
    return TrainerArguments(
        accelerator=accelerator_name(execution.accelerator),
        devices=execution.devices if crew.count == 1 else crew.on_machine,
        num_nodes=crew.machines,
        strategy=execution.strategy,
        precision=precision_on(execution),
        deterministic=execution.deterministic,
        accumulate_grad_batches=execution.accum_steps,
        enable_checkpointing=execution.enable_checkpointing,
        enable_progress_bar=False,  # the run has its own bar, on standard error
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # each process takes its part of every batch itself
    )


def accelerator_name(accelerator: str) -> str:
    """Lightning's word for an accelerator.

    Raises:
        DependencyError: `tpu` without its package.
    """
    if accelerator == "tpu":
        require("torch_xla", "accelerator='tpu'", "pip install torch_xla")
    return "gpu" if accelerator == "cuda" else accelerator


def pick_device(accelerator: str) -> torch.device:
    """Device for a reconstruction; `auto` takes CUDA, then Apple's, then the CPU.

    Raises:
        DependencyError: the accelerator is asked for and not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    match accelerator:
        case "auto":
            return torch.device("cuda" if cuda else "mps" if mps else "cpu")
        case "gpu" if cuda or mps:
            return torch.device("cuda" if cuda else "mps")
        case "cuda" if cuda:
            return torch.device("cuda")
        case "mps" if mps:
            return torch.device("mps")
        case "cpu":
            return torch.device("cpu")
        case _:
            message = f"accelerator={accelerator!r}: no such device is available here; use 'auto' or 'cpu'"
            raise DependencyError(message)


def precision_on(execution: PyTorchExecutionConfig) -> FixedPrecision:
    """Number format of the network on the device of a run."""
    if execution.precision != "auto":
        return execution.precision
    on_tpu = execution.accelerator == "tpu"
    return "bf16-mixed" if on_tpu or computes_in_bfloat16(pick_device(execution.accelerator)) else "32-true"


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16; a CPU without takes up to a hundred times as long in it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False  # of an older torch nobody knows
    has = torch.cpu.get_capabilities()
    return any(has.get(name) is True for name in _BFLOAT16_OF_CPUS)


def check_hardware(execution: PyTorchExecutionConfig) -> None:
    """Refuse what the machine cannot do before anything is built.

    Raises:
        DependencyError: the accelerator is asked for and not there.
        ConfigError: half precision on a CPU, which would lose counts without being faster.

    Warns:
        UserWarning: bfloat16 on a CPU without instructions for it.
    """
    if execution.accelerator == "tpu":
        require("torch_xla", "accelerator='tpu'", "pip install torch_xla")
        return
    device = pick_device(execution.accelerator)
    if device.type == "cpu" and execution.precision == "16-mixed":
        problem = Problem(path="precision", expected="'32-true' or 'bf16-mixed' on a CPU", found="'16-mixed'")
        raise ConfigError("execution", [problem])
    if device.type == "cpu" and execution.precision == "bf16-mixed" and not computes_in_bfloat16(device):
        warn_caller(_NO_BFLOAT16, UserWarning)


def check_logger(execution: PyTorchExecutionConfig) -> None:
    """Refuse a logger whose package is not there, before anything slow.

    Raises:
        DependencyError: it is not installed.
    """
    match execution.logger_backend:
        case "tensorboard":
            require("tensorboard", "logger 'tensorboard'", "pip install 'tensorboard>=2.16'")
        case "mlflow":
            require("mlflow", "logger 'mlflow'", "pip install 'mlflow>=2.14'")
        case _:
            pass


@contextmanager
def process_state_restored() -> Iterator[None]:
    """Lend torch's global generators and switches to a run and put them back afterwards."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get(_WORKSPACE)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            if workspace is None:
                os.environ.pop(_WORKSPACE, None)
            else:
                os.environ[_WORKSPACE] = workspace


def network_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast for the network alone; optics stay in float32."""
    match precision:
        case "bf16-mixed":
            return torch.autocast(device.type, torch.bfloat16)
        case "16-mixed":
            return torch.autocast(device.type, torch.float16)
        case _:
            return nullcontext()


def run_logger(
    execution: PyTorchExecutionConfig, output_dir: Path, config: TorchTrainingConfig
) -> Logger | Literal[False]:
    """Build the logger; `None` logs nothing.

    Raises:
        DependencyError: the logger's package is not installed.
    """
    check_logger(execution)
    match execution.logger_backend:
        case None:
            return False
        case "csv":
            return CSVLogger(output_dir, name=LOG_FOLDER)
        case "tensorboard":
            return TensorBoardLogger(output_dir, name=LOG_FOLDER)
        case "mlflow":
            return MLFlowLogger(
                experiment_name=config.experiment_name,
                run_name=config.model_name,
                tags={"notes": config.notes},
                tracking_uri=(output_dir / MLFLOW_FOLDER).absolute().as_uri(),
            )
        case unknown:
            assert_never(unknown)


def require(module: str, feature: str, command: str) -> None:
    """Check that an optional package is there.

    Raises:
        DependencyError: it is not; the message holds the install command.
    """
    if importlib.util.find_spec(module) is None:
        raise DependencyError(f"{feature} needs the package {module}: {command}")


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Run a block with a number of CPU threads and restore torch's own afterwards.

    Args:
        count: of threads. None takes as many as there are cores free, at most torch's own number, and looks again now
            and then, unless the environment sets the number.
    """
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
            yield
        elif before == 1 or any(os.environ.get(name) for name in _THREAD_NUMBERS):
            yield
        else:
            # Every pass of a network goes by here, and in the thread whose number it is.
            handle = register_module_forward_pre_hook(ThreadsByLoad(before))
            try:
                yield
            finally:
                handle.remove()
    finally:
        torch.set_num_threads(before)


class ThreadsByLoad:
    """Sets the number of CPU threads by what others leave free, when it is called and some time has passed.

    Args:
        most: threads at most.
        look: sees what there is.
        now: seconds of any clock that never goes back.
    """

    def __init__(
        self,
        most: int,
        look: Callable[[], Processors] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._look, self._now = most, look or ProcessorWatch().look, now
        self._due_s = now() + _FIRST_LOOK_S

    def __call__(self, module: object, inputs: object) -> None:
        """Look, if it is time; called before a module's pass."""
        del module, inputs
        if self._now() < self._due_s:
            return
        threads = threads_for(self._look(), self._most)
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        self._due_s = self._now() + _LOOK_EVERY_S
