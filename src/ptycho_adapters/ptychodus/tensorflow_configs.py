"""The settings that the client's PtychoPINN library hands over: mutable, unchecked, and picklable without a framework.

The client makes them before it knows the size of a pattern and fills it in later. They are checked when they are used.
The defaults are the client's own.
"""

from __future__ import annotations

from pathlib import Path

import attrs


@attrs.define(kw_only=True)
class ModelConfig:
    """What the model is; see `ptycho_core.ModelConfig` for each field."""

    N: int = 64
    gridsize: int = 1
    n_filters_scale: int = 2
    model_type: str = "pinn"
    amp_activation: str = "sigmoid"
    object_big: bool = True
    probe_big: bool = True
    probe_mask: bool = False
    pad_object: bool = True
    probe_scale: float = 4.0
    gaussian_smoothing_sigma: float = 0.0


@attrs.define(kw_only=True)
class TrainingConfig:
    """A training; see `ptycho_core.TrainingConfig` for each field. The paths are not used."""

    model: ModelConfig
    train_data_file: Path | None = None
    test_data_file: Path | None = None
    batch_size: int = 16
    nepochs: int = 50
    mae_weight: float = 0.0
    nll_weight: float = 1.0
    realspace_mae_weight: float = 0.0
    realspace_weight: float = 0.0
    nphotons: float = 1e6
    positions_provided: bool = True
    probe_trainable: bool = False
    intensity_scale_trainable: bool = True
    output_dir: Path = Path()


@attrs.define(kw_only=True)
class InferenceConfig:
    """A reconstruction; the paths are not used."""

    model: ModelConfig
    model_path: Path = Path()
    test_data_file: Path = Path()
    debug: bool = False
    output_dir: Path = Path()
