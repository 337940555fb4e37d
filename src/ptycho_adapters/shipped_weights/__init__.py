"""The shipped weights as a file with facts; nothing heavy is imported to know them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training


def weights_path() -> Path:
    """Return the file of the shipped weights in the installed package."""
    return Path(str(files(__name__) / "generalist.safetensors"))


def prior_law_path() -> Path:
    """Return the file of the law by which the network with these weights errs."""
    return Path(str(files(__name__) / "prior_law.json"))


def generalist_payload(size: int) -> TrainingPayload:
    """Return the settings that the shipped weights go with, for patterns of any size in px."""
    return resolve_training(ScanFacts(path=weights_path(), N=size), {"n_groups": 1}, output_dir=Path())
