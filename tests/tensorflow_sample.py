"""A small simulated scan and settings that both backends honour."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from ptycho_core.config.shared import Backend
    from ptycho_core.measurement.scan import Scan

AS_GIVEN: dict[str, object] = {
    "probe_rounds": 0,
    "probe_autofocus": False,
    "background_counts": 0.0,
    "position_refinement": "none",
    "orientation_search": "never",
    "probe_search": "never",
    "flux_search": "never",
    "blur_search": "never",
}
SMALL: dict[str, object] = {
    **AS_GIVEN,
    "n_groups": 20,
    "gridsize": 2,
    "neighbor_count": 6,
    "batch_size": 2,
    "epochs": 2,
    "n_filters_scale": 1,
    "validation_fraction": 0.12,
    "learning_rate": 1e-3,
    "probe_trainable": False,
    "initial_weights": "random",
}


@cache
def tiny_scan() -> Scan:
    """36 patterns of 64 px at sub-pixel positions of a small object under a curved ring-shaped probe."""
    return simulate(SimulationConfig(object_size_px=101, step_px=6.0, jitter_px=1.0, photons=1e5))


def payload_for(backend: Backend, folder: Path, **settings: object) -> TrainingPayload:
    """Settings for a quick training on the tiny scan: about 18 groups of 4 in batches of 2, some patterns held out."""
    execution = PyTorchExecutionConfig(
        accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False, logger_backend=None
    )
    said = {**SMALL, "backend": backend, **settings}
    return resolve_training(ScanFacts(path=Path("scan.npz"), N=64), said, execution, output_dir=folder)


def as_given() -> TorchInferenceConfig:
    """A reconstruction that takes probe, positions and background as they are."""
    return TorchInferenceConfig(**AS_GIVEN)  # type: ignore[arg-type] # values of its own fields


def quietly() -> PyTorchExecutionConfig:
    """On the CPU, without a bar."""
    return PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)
