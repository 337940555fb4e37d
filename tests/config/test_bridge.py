"""Translation between the vocabularies."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

import attrs
import numpy as np
import pytest

from ptycho_core import (
    KEY_MAPPINGS,
    DataConfig,
    ModelConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TrainingConfig,
    from_inference_config,
    from_training_config,
    legacy_dict,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_core.config import InferenceConfig, PackageGenerator, evolve
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from ptycho_core.config.record import Record

FILES: dict[str, object] = {"train_data_file": Path("train.npz"), "test_data_file": Path("test.npz"), "n_groups": 512}
MODEL = {"model_path": Path("model_dir"), "test_data_file": Path("test.npz")}


def test_each_torch_name_reaches_its_canonical_field() -> None:
    """Grid, neighbours, epochs, mode, activation and dose are translated."""
    data = DataConfig(N=128, grid_size=(3, 3), nphotons=5e8, K=7, probe_scale=2.0, subsample_seed=0)
    network = TorchModelConfig(mode="Supervised", amp_activation="silu", architecture="fno", learned_input_channels=3)
    model = to_model_config(data, network)
    training = to_training_config(model, data, network, TorchTrainingConfig(epochs=100, nll=False), FILES)

    assert (model.N, model.gridsize, model.model_type, model.amp_activation) == (128, 3, "supervised", "swish")
    assert (model.architecture, model.learned_input_channels, model.probe_scale) == ("fno", 3, 2.0)
    assert (training.nepochs, training.nll_weight, training.neighbor_count) == (100, 0.0, 7)
    assert (training.nphotons, training.subsample_seed, training.backend) == (5e8, 0, "pytorch")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"probe_mask": True}, True),
        ({"probe_mask": False}, False),
        ({"probe_mask": False, "probe_mask_tensor": np.ones((4, 4))}, True),
    ],
)
def test_a_probe_mask_becomes_a_switch(settings: dict[str, object], expected: bool) -> None:
    """A mask array means that there is a mask."""
    assert to_model_config(DataConfig(), evolve(TorchModelConfig(), **settings)).probe_mask is expected


def test_overrides_outrank_the_records() -> None:
    """Overrides may use any alias and are checked like fields."""
    model = to_model_config(DataConfig(), TorchModelConfig(), {"grid_size": (1, 1), "probe_mask": True})

    assert (model.gridsize, model.probe_mask) == (1, True)
    with pytest.raises(ConfigError, match="did you mean gridsize"):
        to_model_config(DataConfig(), TorchModelConfig(), {"gridsze": 2})


def test_a_grid_that_is_not_square_cannot_be_said() -> None:
    """The field and the reason are named."""
    with pytest.raises(ConfigError, match=r"DataConfig\.grid_size.*Non-square grids"):
        to_model_config(DataConfig(grid_size=(2, 3)), TorchModelConfig())


@pytest.mark.parametrize(("field", "phrase"), [("mode", "Invalid mode"), ("amp_activation", "Unknown activation")])
def test_words_of_neither_vocabulary_are_refused(field: str, phrase: str) -> None:
    """The message opens with what is wrong."""
    with pytest.raises(ValueError, match=phrase):
        evolve(TorchModelConfig(), **{field: "nonsense"})


def test_a_training_needs_groups_and_a_scan() -> None:
    """Both missing settings are named with an example."""
    records = (ModelConfig(), DataConfig(), TorchModelConfig(), TorchTrainingConfig())

    with pytest.raises(ValueError, match="n_groups is required in overrides, such as n_groups=") as error:
        to_training_config(*records)

    assert "train_data_file is required" in str(error.value)


def test_a_reconstruction_needs_a_model_and_a_scan() -> None:
    """Both missing settings are named."""
    with pytest.raises(ValueError, match="model_path is required") as error:
        to_inference_config(ModelConfig(), DataConfig(), TorchInferenceConfig())

    assert "test_data_file is required" in str(error.value)


def test_a_training_without_test_data_warns_once() -> None:
    """The warning names the setting and what it is for."""
    records = (ModelConfig(), DataConfig(), TorchModelConfig(), TorchTrainingConfig())

    with pytest.warns(
        UserWarning, match=r"^test_data_file is not set: evaluation or inference after the training needs one$"
    ) as caught:
        to_training_config(*records, {"train_data_file": "a", "n_groups": 1})

    assert len(caught) == 1


def test_the_warning_points_at_the_caller() -> None:
    """It is attributed to the line that translates, not to the library."""
    records = (ModelConfig(), DataConfig(), TorchModelConfig(), TorchTrainingConfig())

    with pytest.warns(UserWarning, match="test_data_file") as caught:
        to_training_config(*records, {"train_data_file": "a", "n_groups": 1})

    assert caught[0].filename == __file__


def test_records_that_contradict_each_other_are_refused() -> None:
    """A loss that two records name differently is an error that names it."""
    records = (ModelConfig(), DataConfig(), TorchModelConfig(loss_function="MAE"), TorchTrainingConfig())

    with pytest.raises(ConfigError, match="torch_loss_mode"):
        to_training_config(*records, FILES)


def test_the_coordinate_factor_is_not_the_number_of_patterns() -> None:
    """Two settings share a name on two records and stay apart."""
    data = DataConfig(n_subsample=7)
    records = (ModelConfig(), data, TorchModelConfig(), TorchTrainingConfig())

    assert to_training_config(*records, FILES).n_subsample is None
    assert to_training_config(*records, {**FILES, "n_subsample": 1000}).n_subsample == 1000
    assert to_inference_config(ModelConfig(), data, TorchInferenceConfig(), MODEL).n_subsample is None


def test_there_and_back_is_the_identity() -> None:
    """No canonical field is dropped on the way, fractional weights and foreign backends included."""
    model = ModelConfig(N=256, gridsize=3, amp_activation="relu", probe_mask=True, probe_mask_diameter=20.0)
    training = TrainingConfig(
        model=model,
        train_data_file=Path("a"),
        test_data_file=Path("b"),
        nll_weight=0.3,
        backend="tensorflow",
        plateau_factor=0.25,
        neighbor_pool_size=12,
    )
    records = from_training_config(training)

    assert to_model_config(records.data, records.model) == model
    assert to_training_config(model, *records) == training


def test_what_only_the_torch_side_says_is_taken_from_like() -> None:
    """Fields without a canonical counterpart survive a round trip through the canonical records."""
    data, network = (
        DataConfig(x_bounds=(0.2, 0.7)),
        TorchModelConfig(batch_norm=True, probe_mask_tensor=np.eye(4, dtype=np.float32)),
    )
    torch_side = TorchTrainingConfig(seed=7, n_groups=3, train_data_file=Path("a"), test_data_file=Path("b"))
    training = to_training_config(to_model_config(data, network), data, network, torch_side)
    like = from_training_config(training)._replace(data=data, model=network, training=torch_side)

    assert from_training_config(training, like) == (data, network, torch_side)


def test_switching_the_mask_off_drops_its_array() -> None:
    """A canonical record without a mask does not keep the array of `like`."""
    training = TrainingConfig(model=ModelConfig(probe_mask=False))
    like = from_training_config(training)._replace(
        model=TorchModelConfig(probe_mask_tensor=np.eye(4, dtype=np.float32))
    )

    assert from_training_config(training, like).model.probe_mask_tensor is None


def test_an_inference_comes_back_as_it_was() -> None:
    """Every field of a canonical reconstruction has a place on the torch side."""
    inference = InferenceConfig(
        model=ModelConfig(),
        model_path=Path("m"),
        test_data_file=Path("t"),
        debug=True,
        subsample_seed=0,
        neighbor_count=9,
        enable_oversampling=True,
        n_groups=5,
    )
    data, network, torch_side = from_inference_config(inference)

    assert to_inference_config(to_model_config(data, network), data, torch_side) == inference


def test_key_mappings_are_the_legacy_ones() -> None:
    """Nine names differ in the legacy dict."""
    assert dict(KEY_MAPPINGS) == {
        "object_big": "object.big",
        "probe_big": "probe.big",
        "probe_mask": "probe.mask",
        "probe_trainable": "probe.trainable",
        "intensity_scale_trainable": "intensity_scale.trainable",
        "positions_provided": "positions.provided",
        "output_dir": "output_prefix",
        "train_data_file": "train_data_file_path",
        "test_data_file": "test_data_file_path",
    }


@pytest.mark.parametrize("record", [ModelConfig, TrainingConfig, InferenceConfig])
def test_canonical_records_hold_plain_values_and_paths(record: type[Record]) -> None:
    """Everything in them can be a legacy parameter without losing its meaning."""
    kinds = {kind for field in attrs.fields(record) if field.name != "model" for kind in leaves(field.type)}

    assert kinds <= {bool, int, float, str, NoneType, Path, PackageGenerator}
    assert issubclass(PackageGenerator, str)


def leaves(annotation: object) -> set[object]:
    """Return the types that a value of the annotation can have."""
    if get_origin(annotation) is Literal:
        return {type(choice) for choice in get_args(annotation)}
    members = get_args(annotation)
    return {leaf for member in members for leaf in leaves(member)} if members else {annotation}


def test_legacy_parameters_are_plain() -> None:
    """Paths become text; numbers, words, switches and open settings stay what they are."""
    parameters = legacy_dict(TrainingConfig(model=ModelConfig(), train_data_file=Path("a/b")))

    assert parameters["train_data_file_path"] == "a/b"
    assert parameters["test_data_file_path"] is None
    assert (parameters["nphotons"], parameters["probe.mask"], parameters["optimizer"]) == (1e9, False, "adam")
