"""The legacy parameters of one training and one reconstruction, as legacy clients know them."""

from __future__ import annotations

from pathlib import Path

from ptycho_adapters import legacy
from ptycho_core import (
    DataConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    to_inference_config,
    to_model_config,
    to_training_config,
)


def test_the_golden_snapshot_of_legacy_parameters() -> None:
    """A training projected first and a reconstruction after it give the 31 parameters that legacy clients expect."""
    data = DataConfig(N=128, grid_size=(3, 3), K=6, nphotons=5e8, probe_scale=2.0)
    network = TorchModelConfig(
        mode="Unsupervised",
        amp_activation="silu",
        object_big=False,
        probe_big=False,
        intensity_scale_trainable=True,
    )
    torch_side = TorchTrainingConfig(epochs=100, batch_size=32, nll=True)
    changes: dict[str, object] = {"probe_mask": True, "pad_object": False, "gaussian_smoothing_sigma": 0.5}
    model = to_model_config(data, network, changes)
    training = to_training_config(
        model,
        data,
        network,
        torch_side,
        {
            "train_data_file": Path("/data/train.npz"),
            "test_data_file": Path("/data/test.npz"),
            "output_dir": Path("/out/training"),
            "n_groups": 1024,
            "n_subsample": 2048,
            "subsample_seed": 42,
            "mae_weight": 0.3,
            "nll_weight": 0.7,
            "realspace_mae_weight": 0.05,
            "realspace_weight": 0.1,
            "positions_provided": False,
            "probe_trainable": True,
            "sequential_sampling": True,
            "nphotons": 5e8,
        },
    )
    inference = to_inference_config(
        model,
        data,
        TorchInferenceConfig(),
        {
            "model_path": Path("/models/run"),
            "test_data_file": Path("/data/infer.npz"),
            "output_dir": Path("/out/inference"),
            "n_groups": 512,
            "n_subsample": 1024,
            "subsample_seed": 99,
            "debug": True,
        },
    )
    golden = {
        "N": 128,
        "amp_activation": "swish",
        "batch_size": 32,
        "debug": True,
        "gaussian_smoothing_sigma": 0.5,
        "gridsize": 3,
        "intensity_scale.trainable": True,
        "mae_weight": 0.3,
        "model_path": "/models/run",
        "model_type": "pinn",
        "n_filters_scale": 2,
        "n_groups": 512,
        "n_subsample": 1024,
        "neighbor_count": 6,
        "nepochs": 100,
        "nll_weight": 0.7,
        "nphotons": 5e8,
        "object.big": False,
        "output_prefix": "/out/inference",
        "pad_object": False,
        "positions.provided": False,
        "probe.big": False,
        "probe.mask": True,
        "probe.trainable": True,
        "probe_scale": 2.0,
        "realspace_mae_weight": 0.05,
        "realspace_weight": 0.1,
        "sequential_sampling": True,
        "subsample_seed": 99,
        "test_data_file_path": "/data/infer.npz",
        "train_data_file_path": "/data/train.npz",
    }

    parameters: dict[str, object] = {}
    legacy.update_legacy_dict(parameters, training)
    legacy.update_legacy_dict(parameters, inference)

    assert len(golden) == 31
    assert {key: parameters[key] for key in golden} == golden
