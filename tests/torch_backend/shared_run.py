"""A script that trains and reconstructs on some devices, as a user's would; its first process keeps what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ptycho_adapters.crew import started_crew
from ptycho_adapters.torch_backend import generalist_for, reconstruct, train
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.payload import ScanFacts, resolve_training
from ptycho_core.simulation.simulate import SimulationConfig, simulate

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False, "logger_backend": None}
SETTINGS = {
    "n_groups": 7,
    "gridsize": 2,
    "neighbor_count": 6,
    "batch_size": 4,
    "epochs": 2,
    "architecture": "unet",
    "n_filters_scale": 1,
    "validation_fraction": 0.12,
    "learning_rate": 1e-4,
    "probe_autofocus": False,
    "scheduler": "Default",
}


def outcome(devices: int, folder: Path) -> dict[str, torch.Tensor]:
    """Weights, probe, losses and object."""
    execution = PyTorchExecutionConfig(**QUIET, devices=devices)  # type: ignore[arg-type]
    scan = simulate(SimulationConfig(object_size_px=101, step_px=6.0, jitter_px=1.0, photons=1e5))
    payload = resolve_training(ScanFacts(path=Path("scan.npz"), N=64), SETTINGS, execution, output_dir=folder)
    model = train(payload, scan)
    inference = TorchInferenceConfig(probe_rounds=0, finish="none")
    result = reconstruct(generalist_for(scan), scan, execution_config=execution, inference_config=inference)
    losses = [loss for each in model.history for loss in (each.train, each.validation or 0.0)]
    return {
        **{name: value.clone() for name, value in model.generator.state_dict().items()},
        "probe": torch.view_as_real(torch.tensor(model.probes[0].probe)),
        "losses": torch.tensor(losses),
        "object": torch.view_as_real(torch.tensor(result.object)),
        "coverage": torch.tensor(result.coverage),
        "r_factors": torch.tensor(result.r_factors),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    found = outcome(int(sys.argv[1]), folder)
    torch.save(found, folder / f"outcome_{started_crew().rank}.pt")
