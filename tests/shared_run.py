"""A script that trains and reconstructs on some devices, as a user's would; each process keeps what came out.

The others are killed then, while the first one goes on to train, and keeps what it is told of that.

It computes in double precision, whatever the code asks for: what is then left between one process and two is no
rounding of float32, which a training amplifies.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.overrides import TorchFunctionMode

from ptycho_adapters.crew import crew_of
from ptycho_adapters.torch_backend import generalist_for, reconstruct, train
from ptycho_adapters.torch_backend.sharing import ProcessLostError
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.payload import ScanFacts, resolve_training
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False, "logger_backend": None}
SETTINGS = {
    "n_groups": 7,
    "gridsize": 2,
    "neighbor_count": 6,
    "batch_size": 4,
    "epochs": 1,
    "architecture": "unet",
    "n_filters_scale": 1,
    "validation_fraction": 0.12,
    "learning_rate": 1e-3,
    "probe_autofocus": False,
    "probe_rounds": 0,
    "scheduler": "Default",
}
DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}


class Double(TorchFunctionMode):
    """Makes double precision of whatever single precision is asked for or comes in."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Call with other types."""
        del types
        args = tuple(self._of(each) for each in args)
        made = func(*args, **{name: self._of(value) for name, value in (kwargs or {}).items()})
        return made.to(DOUBLE[made.dtype]) if isinstance(made, torch.Tensor) and made.dtype in DOUBLE else made

    @staticmethod
    def _of(value: object) -> object:
        return DOUBLE.get(value, value) if isinstance(value, torch.dtype) else value


def scan(seed: int) -> Scan:
    """A small one."""
    return simulate(SimulationConfig(object_size_px=101, step_px=6.0, jitter_px=1.0, photons=1e5, seed=seed))


def trained(devices: int, folder: Path, scans: list[Scan]) -> dict[str, torch.Tensor]:
    """Weights, probes and losses."""
    execution = PyTorchExecutionConfig(**QUIET, devices=devices)  # type: ignore[arg-type]
    payload = resolve_training(ScanFacts(path=Path("scan.npz"), N=64), SETTINGS, execution, output_dir=folder)
    model = train(payload, scans)
    losses = [loss for each in model.history for loss in (each.train, each.validation or 0.0)]
    return {
        **{name: value.clone() for name, value in model.generator.state_dict().items()},
        **{f"probe {n}": torch.view_as_real(torch.tensor(each.probe)) for n, each in enumerate(model.probes)},
        "losses": torch.tensor(losses, dtype=torch.float64),
    }


def reconstructed(devices: int) -> dict[str, torch.Tensor]:
    """Object, and how well it fits."""
    execution = PyTorchExecutionConfig(**QUIET, devices=devices)  # type: ignore[arg-type]
    inference = TorchInferenceConfig(probe_rounds=0, finish="none")
    result = reconstruct(generalist_for(scan(0)), scan(0), execution_config=execution, inference_config=inference)
    return {
        "object": torch.view_as_real(torch.tensor(result.object)),
        "coverage": torch.tensor(result.coverage),
        "r_factors": torch.tensor(result.r_factors),
        "metrics": torch.tensor(list(result.metrics.values()), dtype=torch.float64),
    }


def outcome(devices: int, folder: Path) -> dict[str, torch.Tensor]:
    """All of it, of a training on two scans."""
    with Double():
        return {**trained(devices, folder, [scan(0), scan(1)]), **reconstructed(devices)}


if __name__ == "__main__":
    own, target = int(sys.argv[1]), Path(sys.argv[2])
    crew = crew_of(own)
    torch.save(outcome(own, target), target / f"outcome_{crew.rank}.pt")
    if not crew.leads:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        trained(own, target, [scan(0)])
    except ProcessLostError as error:
        (target / "lost.txt").write_text(str(error))
