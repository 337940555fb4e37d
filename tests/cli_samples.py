"""Small scans and short ways to call the command line, for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.cli import parse
from ptycho_adapters.commands import infer, train
from ptycho_adapters.files import write_scan
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core import InferencePayload, TrainingPayload

N_PATTERNS = 16


def tiny_scan(folder: Path, name: str = "scan.npz", *, seed: int = 0) -> Path:
    """Write a simulated scan of 16 patterns of 64 px."""
    path = folder / name
    write_scan(simulate(SimulationConfig(object_size_px=100, step_px=9, seed=seed, photons=1e5)), path)
    return path


def training_payload(scan: Path, out: Path, *flags: str) -> TrainingPayload:
    """Build the payload that a command line gives, with the real parser and plan."""
    arguments = ["train", "--train-data-file", str(scan), "--output-dir", str(out), "--n-groups", "8", *flags]
    return train.plan(train.read_request(parse(arguments)[1]))


def inference_payload(model: Path, scan: Path, out: Path, *flags: str) -> InferencePayload:
    """Build the payload that a command line gives, with the real parser and plan."""
    arguments = ["infer", "--model-path", str(model), "--test-data", str(scan), "--output-dir", str(out), *flags]
    return infer.plan(infer.read_request(parse(arguments)[1]))
