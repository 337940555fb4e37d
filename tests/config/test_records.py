"""Records: what they accept, what they refuse and how they say so."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptycho_core.config import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TrainingConfig,
    evolve,
)
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptycho_core.config.record import Record


def paths(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    return [problem.path for problem in error.value.problems]


def test_all_problems_of_a_construction_come_together() -> None:
    """Every offending field is named in one error."""
    with pytest.raises(ConfigError) as error:
        ModelConfig(N=9, gridsize=-1, model_type="zzz", probe_scale=-1.0)  # type: ignore[arg-type]

    assert sorted(paths(error)) == ["N", "gridsize", "model_type", "probe_scale"]


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (TrainingConfig, "batch_size", 5),
        (TrainingConfig, "batch_size", 0),
        (TrainingConfig, "batch_size", -4),
        (TrainingConfig, "batch_size", True),
        (TrainingConfig, "nepochs", 0),
        (TrainingConfig, "nphotons", 0.0),
        (TrainingConfig, "nphotons", math.nan),
        (TrainingConfig, "nphotons", math.inf),
        (TrainingConfig, "nll_weight", 1.5),
        (TrainingConfig, "mae_weight", -0.1),
        (TrainingConfig, "n_groups", -5),
        (TrainingConfig, "n_groups", 2.9),
        (TrainingConfig, "n_groups", "64"),
        (TrainingConfig, "probe_trainable", 1),
        (TrainingConfig, "probe_trainable", "false"),
        (TrainingConfig, "scheduler", "bogus"),
        (TrainingConfig, "train_data_file", 3),
        (TrainingConfig, "train_data_file", "a\0b"),
        (TrainingConfig, "train_data_file", b"a"),
        (ModelConfig, "N", 15),
        (ModelConfig, "N", True),
        (ModelConfig, "architecture", "resnet"),
        (ModelConfig, "gaussian_smoothing_sigma", -0.5),
        (DataConfig, "grid_size", (2,)),
        (DataConfig, "grid_size", (0, 2)),
        (DataConfig, "grid_size", "22"),
        (DataConfig, "x_bounds", (0.9, 0.1)),
        (DataConfig, "subsample_seed", -1),
        (TorchModelConfig, "probe_mask_tensor", [[1.0, math.nan]]),
        (TorchModelConfig, "probe_mask_tensor", "mask"),
        (TorchTrainingConfig, "validation_fraction", 0.6),
        (TorchTrainingConfig, "background_counts", -0.1),
        (TorchTrainingConfig, "unmerged_weight", -1.0),
        (TorchTrainingConfig, "nll", 1.0),
        (DataConfig, "K_quadrant", 0),
        (DataConfig, "n_subsample", 0),
        (DataConfig, "max_neighbor_distance", -1.0),
        (TorchModelConfig, "amplitude_physics_gain", 0.0),
        (TorchModelConfig, "decoder_last_c_outer_fraction", 1.5),
        (TorchModelConfig, "spectral_bottleneck_modes", 0),
        (TorchModelConfig, "edge_pad", -1),
        (TorchTrainingConfig, "stage_1_epochs", -1),
        (TorchInferenceConfig, "window", -1),
        (TorchInferenceConfig, "patch_stats_limit", 0),
    ],
)
def test_a_record_refuses_what_its_rules_exclude(record: type[Record], field: str, value: object) -> None:
    """The error names the field, the record and the value."""
    needed: dict[str, object] = {"model": ModelConfig()} if record is TrainingConfig else {}

    with pytest.raises(ConfigError, match=record.__name__) as error:
        record(**{**needed, field: value})

    assert paths(error) == [field]


def test_numbers_reach_as_far_as_files_and_machines_have_them() -> None:
    """Integers have 64 bits with their sign, and the largest float is one."""
    training = TrainingConfig(model=ModelConfig(), n_groups=2**63 - 1, nphotons=sys.float_info.max)

    assert (training.n_groups, training.nphotons) == (2**63 - 1, sys.float_info.max)
    with pytest.raises(ConfigError) as error:
        evolve(training, n_groups=2**63, nphotons=2 * 10**308)
    assert set(paths(error)) == {"n_groups", "nphotons"}


@pytest.mark.parametrize("value", [1, 3, "auto"])
def test_devices_are_a_positive_number_or_auto(value: object) -> None:
    """The accepted forms are kept as they are."""
    assert evolve(PyTorchExecutionConfig(), devices=value).devices == value


@pytest.mark.parametrize("value", [0, -1, "gpu", "1", 1.5, True, None])
def test_other_devices_are_refused(value: object) -> None:
    """Neither text, fractions nor bools count devices."""
    with pytest.raises(ConfigError, match="devices"):
        evolve(PyTorchExecutionConfig(), devices=value)


def test_a_word_outside_the_vocabulary_is_complained_of() -> None:
    """The message ends in the words of its setting, with what was said."""
    with pytest.raises(ConfigError, match=r"accelerator: expected one of .*, found 'npu'; Invalid accelerator 'npu'$"):
        evolve(PyTorchExecutionConfig(), accelerator="npu")


@pytest.mark.parametrize("value", [32, "16", "bf16", "16-true", "32-mixed", "fp12", None, ["32-true"]])
def test_precision_is_one_of_three_words(value: object) -> None:
    """Anything but the three supported words is refused."""
    with pytest.raises(ConfigError, match="precision"):
        evolve(PyTorchExecutionConfig(), precision=value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accelerator", "npu"),
        ("deterministic", "yes"),
        ("gradient_clip_val", -1.0),
        ("gradient_clip_algorithm", "zzz"),
        ("accum_steps", 1.5),
        ("num_workers", True),
        ("prefetch_factor", -3),
        ("learning_rate", math.nan),
        ("learning_rate", None),
        ("checkpoint_save_top_k", -2),
        ("checkpoint_mode", "mean"),
        ("early_stop_patience", 0),
        ("logger_backend", "wandb"),
        ("inference_batch_size", 0),
        ("strategy", ""),
        ("max_time", "10:00"),
        ("max_time", "00:25:00:00"),
        ("max_time", "00:00:00:00"),
        ("recon_log_every_n_epochs", 0),
        ("ffno_encoder_blocks", 0),
        ("ffno_encoder_gate_init", 0.0),
        ("ffno_encoder_mlp_ratio", -2.0),
        ("ffno_encoder_norm", " "),
        ("persistent_workers", True),
        ("prefetch_factor", 2),
    ],
)
def test_the_execution_record_refuses_what_cannot_run(field: str, value: object) -> None:
    """Loader options that need processes are refused without them; everything else by its own rule."""
    with pytest.raises(ConfigError) as error:
        evolve(PyTorchExecutionConfig(), **{field: value})

    assert paths(error) == [field]


@pytest.mark.parametrize("accelerator", ["auto", "cpu", "gpu", "cuda", "tpu", "mps"])
def test_accelerators_are_words_until_a_run_starts(accelerator: str) -> None:
    """Construction keeps the word, whatever this machine has."""
    assert evolve(PyTorchExecutionConfig(), accelerator=accelerator).accelerator == accelerator


def test_values_come_in_their_annotated_type() -> None:
    """Integers become floats, text becomes a path, lists become tuples, NumPy scalars become Python's."""
    training = evolve(
        TrainingConfig(model=ModelConfig()),
        nphotons=5,
        train_data_file="a/b.npz",
        n_groups=np.int64(7),
        mae_weight=np.float32(0.5),
    )

    assert type(training.nphotons) is float
    assert training.train_data_file == Path("a/b.npz")
    assert type(training.n_groups) is int
    assert type(training.mae_weight) is float
    assert evolve(DataConfig(), grid_size=[3, 3]).grid_size == (3, 3)


def test_either_vocabulary_is_read_and_each_record_spells_its_own() -> None:
    """Activations and modes are translated at construction."""
    assert evolve(ModelConfig(), amp_activation="SiLU", model_type="Supervised") == ModelConfig(
        amp_activation="swish", model_type="supervised"
    )
    assert evolve(TorchModelConfig(), amp_activation="swish", mode="pinn") == TorchModelConfig(
        amp_activation="silu", mode="Unsupervised"
    )


def test_group_size_is_derived() -> None:
    """C follows from the grid and cannot be given."""
    assert ModelConfig(gridsize=3).C == 9
    assert DataConfig(grid_size=(2, 3)).C == 6
    with pytest.raises(TypeError):
        DataConfig(C=4)  # type: ignore[call-arg]


def test_records_are_frozen() -> None:
    """A field cannot be reassigned."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ModelConfig().N = 128  # type: ignore[misc]


def test_nll_is_the_switch_form_of_its_weight() -> None:
    """The weight follows the switch, and a contradiction is an error."""
    assert TorchTrainingConfig(nll=False).nll_weight == 0.0
    assert TorchTrainingConfig(nll_weight=0.3).nll is True
    with pytest.raises(ConfigError, match="nll_weight"):
        TorchTrainingConfig(nll=True, nll_weight=0.0)


def test_a_mask_array_switches_the_mask_on() -> None:
    """The array is kept as an unchangeable copy and the switch follows it."""
    ones = np.ones((4, 4), np.float32)
    model = TorchModelConfig(probe_mask=False, probe_mask_tensor=ones)
    ones[0, 0] = 7.0

    assert model.probe_mask is True
    assert model.probe_mask_tensor is not None
    assert model.probe_mask_tensor[0, 0] == 1.0
    assert not model.probe_mask_tensor.flags.writeable


SIGNALLING_NAN = float(np.array(0x7FF0_0000_0000_0001, np.uint64).view(np.float64))


@pytest.mark.parametrize("number", [3.4028235677973366e38, -1e300, math.inf, math.nan, SIGNALLING_NAN])
@pytest.mark.parametrize("kind", [list, np.array])
def test_an_array_holds_only_numbers_of_single_precision(kind: Callable[[object], object], number: float) -> None:
    """A number that would become infinite is refused as an infinite one is, and no warning is all there is of it."""
    with pytest.raises(ConfigError) as error:
        evolve(TorchModelConfig(), probe_mask_tensor=kind([[1.0, number]]))

    assert paths(error) == ["probe_mask_tensor"]


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        np.float32(1),
        np.array(1.0),
        [[True]],
        [[1j]],
        [["1"]],
        np.ones((1, 1), "datetime64[s]"),
        [[1.0], [1.0, 2.0]],
    ],
    ids=repr,
)
def test_what_is_no_array_of_real_numbers_is_refused(value: object) -> None:
    """A lone number, another kind of item and rows of several lengths are no array."""
    with pytest.raises(ConfigError) as error:
        evolve(TorchModelConfig(), probe_mask_tensor=value)

    assert paths(error) == ["probe_mask_tensor"]


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float16", "float64"])
def test_an_array_of_any_real_dtype_becomes_float32(dtype: str) -> None:
    """Integers, signed or not, and floats of any width are numbers."""
    mask = evolve(TorchModelConfig(), probe_mask_tensor=np.ones((2, 3), dtype)).probe_mask_tensor

    np.testing.assert_array_equal(mask, np.ones((2, 3), np.float32), strict=True)


def test_an_array_may_hold_the_largest_number_of_single_precision() -> None:
    """A number that is rounded to it stays."""
    largest = float(np.finfo(np.float32).max)
    mask = evolve(TorchModelConfig(), probe_mask_tensor=[[largest, largest * (1 + 1e-9)]]).probe_mask_tensor

    np.testing.assert_array_equal(mask, np.full((1, 2), largest, np.float32), strict=True)


def test_the_scale_contract_and_its_domain_are_a_pair() -> None:
    """Half of a pair is refused and the whole one is accepted."""
    with pytest.raises(ConfigError, match="supplied together"):
        DataConfig(measurement_domain="normalized_amplitude")

    both = DataConfig(scale_contract_version="legacy_v1", measurement_domain="normalized_amplitude")

    assert both.measurement_domain == "normalized_amplitude"


def test_n_images_is_read_as_n_groups_with_a_warning() -> None:
    """The deprecated name gives the value and is then forgotten."""
    with pytest.warns(DeprecationWarning, match="n_groups"):
        training = TrainingConfig(model=ModelConfig(), n_images=64)

    assert (training.n_groups, training.n_images) == (64, None)


def test_n_images_must_not_contradict_n_groups() -> None:
    """Two different numbers of groups are an error that names both."""
    with pytest.raises(ConfigError, match=r"n_images.*n_groups"):
        TrainingConfig(model=ModelConfig(), n_images=64, n_groups=512)


def test_defaults_that_legacy_clients_rely_on() -> None:
    """The canonical records start where the legacy ones do."""
    training = TrainingConfig(model=ModelConfig())
    inference = InferenceConfig(model=ModelConfig(), model_path=Path("m"), test_data_file=Path("t"))

    assert (training.nepochs, training.batch_size, training.n_groups, training.neighbor_count) == (50, 16, 512, 4)
    assert (training.backend, training.nphotons, training.model.gridsize) == ("tensorflow", 1e9, 1)
    assert (inference.n_groups, inference.debug, inference.backend) == (None, False, "tensorflow")


def test_execution_remembers_what_was_passed() -> None:
    """A default is told from the same value given on purpose."""
    assert PyTorchExecutionConfig().explicit == frozenset()
    assert PyTorchExecutionConfig(num_workers=0).explicit == {"num_workers"}
    assert evolve(PyTorchExecutionConfig(num_workers=0), learning_rate=1e-3).explicit == {
        "num_workers",
        "learning_rate",
    }


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda record: pickle.loads(pickle.dumps(record))])
def test_copies_keep_what_was_passed(clone: object) -> None:
    """Copying and pickling preserve fields and memory."""
    original = PyTorchExecutionConfig(accelerator="cpu")
    twin = clone(original) if callable(clone) else None

    assert isinstance(twin, PyTorchExecutionConfig)
    assert twin == original
    assert twin.explicit == {"accelerator"}


def test_evolve_refuses_unknown_fields() -> None:
    """A misspelt field is an error, not a silent no-op."""
    with pytest.raises(ConfigError, match="learnig_rate"):
        evolve(PyTorchExecutionConfig(), learnig_rate=1.0)


def test_no_logger_may_be_said_as_none_or_as_a_word() -> None:
    """The word of the command line and None mean the same."""
    assert evolve(PyTorchExecutionConfig(), logger_backend="none").logger_backend is None
    assert PyTorchExecutionConfig(logger_backend=None).logger_backend is None


@pytest.mark.parametrize("value", [np.ones(2), [np.ones(2), np.ones(2)], np.zeros(0)], ids=["array", "pair", "empty"])
@pytest.mark.parametrize(("record", "field"), [(PyTorchExecutionConfig, "logger_backend"), (DataConfig, "grid_size")])
def test_an_array_where_a_word_or_a_pair_belongs_is_a_problem_like_any_other(
    record: type[Record], field: str, value: object
) -> None:
    """Comparing arrays with words raises no error of NumPy's own."""
    with pytest.raises(ConfigError) as error:
        record(**{field: value})

    assert paths(error) == [field]
