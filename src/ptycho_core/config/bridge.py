"""Translation between the torch-side records, the canonical records and the legacy keys.

Everything follows from the field table: a record's field holds a key in some spelling; to translate is to decode it
there and to encode it here.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - signatures are read at run time too
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from ptycho_core.callers import warn_caller
from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.config.overrides import read_names, says
from ptycho_core.config.record import Record, evolve
from ptycho_core.config.table import CANONICAL, Table, read_record, spell
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

R = TypeVar("R", bound=Record)

LegacyValue = bool | int | float | str | None

# Fields of canonical records that the torch side leaves open, with a way to say them.
_REQUIRED: Mapping[type[Record], Mapping[str, str]] = MappingProxyType(
    {
        ModelConfig: {},
        TrainingConfig: {"n_groups": "n_groups=512", "train_data_file": "train_data_file=Path('train.npz')"},
        InferenceConfig: {"model_path": "model_path=Path('out')", "test_data_file": "test_data_file=Path('test.npz')"},
    }
)
_TABLES: Mapping[type[Record], Table] = MappingProxyType({record: Table(record) for record in CANONICAL})

KEY_MAPPINGS: Mapping[str, str] = MappingProxyType(
    {info.key: info.knob.legacy for table in _TABLES.values() for info in table if info.knob.legacy}
)
"""Names that differ between the canonical records and the legacy parameter dict."""


class TorchTrainingRecords(NamedTuple):
    """The torch-side records of a training."""

    data: DataConfig
    model: TorchModelConfig
    training: TorchTrainingConfig


class TorchInferenceRecords(NamedTuple):
    """The torch-side records of a reconstruction."""

    data: DataConfig
    model: TorchModelConfig
    inference: TorchInferenceConfig


def to_model_config(
    data: DataConfig, model: TorchModelConfig, overrides: Mapping[str, object] | None = None
) -> ModelConfig:
    """Return the canonical model of torch-side records.

    Args:
        data: holds size, illumination and grid.
        model: holds the network.
        overrides: canonical settings that outrank the records; aliases are fine.

    Raises:
        ConfigError: a non-square grid, or overrides that are unknown or not valid.
    """
    return _canonical(ModelConfig, (data, model), overrides, {})


def to_training_config(
    tf_model: ModelConfig,
    data: DataConfig,
    pt_model: TorchModelConfig,
    training: TorchTrainingConfig,
    overrides: Mapping[str, object] | None = None,
) -> TrainingConfig:
    """Return the canonical training of torch-side records around a canonical model.

    Raises:
        ConfigError: `n_groups` or `train_data_file` is in neither the records nor the overrides; records contradict
            each other; overrides are unknown or not valid.

    Warns:
        UserWarning: there is no `test_data_file`.
    """
    config = _canonical(TrainingConfig, (data, pt_model, training), overrides, {"model": tf_model})
    if config.test_data_file is None:
        warn_caller("test_data_file is not set: evaluation or inference after the training needs one", UserWarning)
    return config


def to_inference_config(
    tf_model: ModelConfig,
    data: DataConfig,
    inference: TorchInferenceConfig,
    overrides: Mapping[str, object] | None = None,
) -> InferenceConfig:
    """Return the canonical reconstruction of torch-side records around a canonical model.

    Raises:
        ConfigError: `model_path` or `test_data_file` is in neither the record nor the overrides; overrides that are
            unknown or not valid.
    """
    return _canonical(InferenceConfig, (data, inference), overrides, {"model": tf_model})


def from_training_config(config: TrainingConfig, like: TorchTrainingRecords | None = None) -> TorchTrainingRecords:
    """Return the torch-side records of a canonical training.

    Args:
        config: the canonical training; every field has a place in the result.
        like: where the fields come from that the canonical records do not have; the records' defaults if not given.
            With the records that `config` was made of, the result equals them.
    """
    values = _said(config.model, config)
    base = like or TorchTrainingRecords(DataConfig(), TorchModelConfig(), TorchTrainingConfig())
    return TorchTrainingRecords(_put(base.data, values), _put(base.model, values), _put(base.training, values))


def from_inference_config(config: InferenceConfig, like: TorchInferenceRecords | None = None) -> TorchInferenceRecords:
    """Return the torch-side records of a canonical reconstruction, `like` as in `from_training_config`."""
    values = _said(config.model, config)
    base = like or TorchInferenceRecords(DataConfig(), TorchModelConfig(), TorchInferenceConfig())
    return TorchInferenceRecords(_put(base.data, values), _put(base.model, values), _put(base.inference, values))


def legacy_dict(config: ModelConfig | TrainingConfig | InferenceConfig) -> dict[str, LegacyValue]:
    """Return the legacy parameters of a canonical record: every key it has, flat, paths as text, None where open."""
    nested = {} if isinstance(config, ModelConfig) else legacy_dict(config.model)
    own = {KEY_MAPPINGS.get(key, key): _legacy_value(value) for key, value in _said(config).items()}
    return own | nested


def disagreements(*records: Record) -> list[Problem]:
    """Return the keys on which torch-side and canonical records differ, one problem per key."""
    return _gather(records)[1]


def settings_of(*records: Record) -> dict[str, object]:
    """Return the settings of records by key, in canonical spelling; of records that differ, the first one speaks."""
    return _gather(records)[0]


def _legacy_value(value: object) -> LegacyValue:
    """Return a canonical value as a plain one; the only other kind there is are paths."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _canonical(
    target: type[R], records: tuple[Record, ...], overrides: Mapping[str, object] | None, nested: Mapping[str, object]
) -> R:
    """Return the canonical record that the torch-side records and the overrides describe."""
    values, problems = _gather(records)
    given, table = overrides or {}, _TABLES[target]
    heard = read_names(given, table, "overrides", problems)
    values |= heard
    for key, example in _REQUIRED[target].items():
        refused = key not in heard and says(given, key, table)  # a problem already
        if values.get(key) is None and not refused:
            fix = f"{key} is required in overrides, such as {example}"
            problems.append(Problem(path=key, expected="a value", found="none", fix=fix))
    raise_if_any(ConfigError, target.__name__, problems)
    return target(**spell(target, values), **nested)


def _gather(records: tuple[Record, ...]) -> tuple[dict[str, object], list[Problem]]:
    """Return the settings of several records with their contradictions."""
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for record in records:
        said, found = read_record(record)
        problems.extend(found)
        for key, value in said.items():
            if key in values and value != values[key]:
                path = f"{type(record).__name__}.{key}"
                problems.append(Problem(path=path, expected=f"{shown(values[key])}, as elsewhere", found=shown(value)))
        values = said | values
    return values, problems


def _said(*records: Record) -> dict[str, object]:
    """Return the settings of canonical records, which always have a canonical spelling."""
    return {key: value for record in records for key, value in read_record(record)[0].items()}


def _put(record: R, values: Mapping[str, object]) -> R:
    """Return the torch-side record with every setting that has a value."""
    changes = spell(type(record), values)
    if isinstance(record, TorchModelConfig) and values["probe_mask"] is False:
        changes["probe_mask_tensor"] = None
    return evolve(record, **changes)
