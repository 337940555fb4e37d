"""The nineteen behaviours of the factories that existing clients rely on, one test each, under the names they know.

| behaviour | here |
|---|---|
| a training payload is structured, with canonical and torch-side records and its overrides | `training_payload_*` |
| an inference payload is structured, with canonical and torch-side records | `inference_payload_*` |
| grid, epochs and neighbours are translated | `*_conversion`, `grid_size_tuple_to_gridsize_int` |
| the legacy parameters are filled | `factory_populates_params_cfg`, `populate_legacy_params_helper` |
| what was asked for wins | `*_wins_over_*` |
| what is missing is an error | `missing_*`, `nonexistent_*` |
| the probe gives the size | `infer_probe_size_*` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from factory_samples import empty_model, write_scan_file
from ptycho_adapters import legacy
from ptycho_adapters.factory import (
    create_inference_payload,
    create_training_payload,
    infer_probe_size,
    populate_legacy_params,
)
from ptycho_core import (
    DataConfig,
    InferenceConfig,
    InferencePayload,
    ModelConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TrainingConfig,
    TrainingPayload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope() as cfg:
        cfg.clear()
        yield


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan_file(tmp_path / "train.npz")


@pytest.fixture
def training(scan: Path, tmp_path: Path) -> TrainingPayload:
    return create_training_payload(scan, tmp_path / "out", {"n_groups": 512, "batch_size": 8})


@pytest.fixture
def inference(scan: Path, tmp_path: Path) -> InferencePayload:
    with pytest.warns(UserWarning, match="is empty"):
        return create_inference_payload(empty_model(tmp_path / "model"), scan, tmp_path / "out", {"n_groups": 128})


def test_training_payload_returns_dataclass(training: TrainingPayload) -> None:
    """The result is a structured, immutable payload rather than a dict."""
    assert isinstance(training, TrainingPayload)
    with pytest.raises(AttributeError):
        training.pt_data_config = DataConfig()  # type: ignore[misc]


def test_training_payload_contains_tf_config(training: TrainingPayload) -> None:
    """The canonical record is there and says what was asked for."""
    assert isinstance(training.tf_training_config, TrainingConfig)
    assert training.tf_training_config.n_groups == 512


def test_training_payload_contains_pytorch_configs(training: TrainingPayload) -> None:
    """The three torch-side records of a training are there, and say the same."""
    assert isinstance(training.pt_data_config, DataConfig)
    assert isinstance(training.pt_model_config, TorchModelConfig)
    assert isinstance(training.pt_training_config, TorchTrainingConfig)
    assert (training.pt_training_config.n_groups, training.pt_training_config.batch_size) == (512, 8)


def test_training_payload_contains_overrides_dict(training: TrainingPayload) -> None:
    """What was asked for can be looked up as it was applied."""
    assert dict(training.overrides_applied) == {"n_groups": 512, "batch_size": 8}


def test_inference_payload_returns_dataclass(inference: InferencePayload) -> None:
    """The result is a structured, immutable payload rather than a dict."""
    assert isinstance(inference, InferencePayload)
    with pytest.raises(AttributeError):
        inference.pt_data_config = DataConfig()  # type: ignore[misc]


def test_inference_payload_contains_tf_config(inference: InferencePayload) -> None:
    """The canonical record is there and says what was asked for."""
    assert isinstance(inference.tf_inference_config, InferenceConfig)
    assert inference.tf_inference_config.n_groups == 128


def test_inference_payload_contains_pytorch_configs(inference: InferencePayload) -> None:
    """The torch-side records of a reconstruction are there, and say the same."""
    assert isinstance(inference.pt_data_config, DataConfig)
    assert isinstance(inference.pt_inference_config, TorchInferenceConfig)
    assert inference.pt_inference_config.n_groups == 128


def test_grid_size_tuple_to_gridsize_int(scan: Path, tmp_path: Path) -> None:
    """One grid has two sizes on the torch side and one in the canonical record."""
    payload = create_training_payload(scan, tmp_path / "out", {"n_groups": 512, "gridsize": 2})

    assert payload.pt_data_config.grid_size == (2, 2)
    assert payload.tf_training_config.model.gridsize == 2


def test_epochs_to_nepochs_conversion(scan: Path, tmp_path: Path) -> None:
    """The command line's name for epochs reaches both vocabularies."""
    payload = create_training_payload(scan, tmp_path / "out", {"n_groups": 512, "max_epochs": 20})

    assert payload.pt_training_config.epochs == payload.tf_training_config.nepochs == 20


def test_k_to_neighbor_count_conversion(scan: Path, tmp_path: Path) -> None:
    """The number of neighbours reaches both vocabularies."""
    payload = create_training_payload(scan, tmp_path / "out", {"n_groups": 512, "neighbor_count": 7})

    assert payload.pt_data_config.K == payload.tf_training_config.neighbor_count == 7


def test_factory_populates_params_cfg(scan: Path, tmp_path: Path) -> None:
    """Grid, size and groups stand in the legacy parameters when the factory returns."""
    create_training_payload(scan, tmp_path / "out", {"n_groups": 512, "gridsize": 2})

    assert {key: legacy.cfg[key] for key in ("gridsize", "N", "n_groups")} == {"gridsize": 2, "N": 64, "n_groups": 512}


def test_populate_legacy_params_helper() -> None:
    """A canonical record alone fills empty legacy parameters."""
    populate_legacy_params(TrainingConfig(model=ModelConfig(N=64, gridsize=2), n_groups=512))

    assert legacy.cfg["gridsize"] == 2


def test_override_dict_wins_over_defaults(scan: Path, tmp_path: Path) -> None:
    """Values other than the defaults are the ones that hold."""
    payload = create_training_payload(scan, tmp_path / "out", {"n_groups": 1024, "batch_size": 32})

    assert (payload.tf_training_config.n_groups, payload.tf_training_config.batch_size) == (1024, 32)
    assert TorchTrainingConfig().batch_size != 32 != TrainingConfig(model=ModelConfig()).batch_size


def test_probe_size_override_wins_over_inference(scan: Path, tmp_path: Path) -> None:
    """A size that was asked for outranks the one of the file's probe."""
    payload = create_training_payload(scan, tmp_path / "out", {"n_groups": 512, "N": 128})

    assert infer_probe_size(scan) == 64
    assert payload.tf_training_config.model.N == payload.pt_data_config.N == 128


def test_missing_n_groups_raises_error(scan: Path, tmp_path: Path) -> None:
    """The number of groups has to be said."""
    with pytest.raises(ValueError, match="n_groups is required"):
        create_training_payload(scan, tmp_path / "out", {})


def test_nonexistent_train_data_file_raises_error(tmp_path: Path) -> None:
    """A scan that is not there is a missing file."""
    with pytest.raises(FileNotFoundError, match="Training data file not found"):
        create_training_payload(tmp_path / "nothing.npz", tmp_path / "out", {"n_groups": 512})


def test_missing_checkpoint_raises_error(scan: Path, tmp_path: Path) -> None:
    """A folder without an archive is no model."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(ValueError, match="Model archive not found"):
        create_inference_payload(tmp_path / "empty", scan, tmp_path / "out", {"n_groups": 128})


def test_infer_probe_size_from_npz(scan: Path, tmp_path: Path) -> None:
    """The side of the probe is read from the file."""
    assert infer_probe_size(scan) == 64
    assert infer_probe_size(write_scan_file(tmp_path / "large.npz", size=128)) == 128


def test_infer_probe_size_missing_file_fallback(tmp_path: Path) -> None:
    """Without a file the answer is 64, and says that it is a stand-in."""
    with pytest.warns(UserWarning, match="taking a probe of 64 px"):
        assert infer_probe_size(tmp_path / "nothing.npz") == 64
