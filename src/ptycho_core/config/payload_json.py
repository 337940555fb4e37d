"""A training payload as JSON text, for archives, and back."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.config.bridge import settings_of
from ptycho_core.config.canonical import TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.overrides import Layer, Settings
from ptycho_core.config.payload import TrainingPayload
from ptycho_core.config.record import remember
from ptycho_core.config.serialize import structure, unstructure
from ptycho_core.config.table import TRAINING
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_core.config.record import Record
    from ptycho_core.config.serialize import JsonValue

FORMAT_VERSION = 1

_SUBJECT = "training payload"
_RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {
        "training": TrainingConfig,
        "pt_data": DataConfig,
        "pt_model": TorchModelConfig,
        "pt_training": TorchTrainingConfig,
        "pt_inference": TorchInferenceConfig,
        "execution": PyTorchExecutionConfig,
    }
)
_NAMES = _RECORDS.keys() | {"format_version", "execution_explicit", "overrides_applied", "provenance"}


def payload_to_json(payload: TrainingPayload) -> str:
    """Return the payload as JSON text; `payload_from_json` gives it back, field for field."""
    data: dict[str, JsonValue] = {
        "format_version": FORMAT_VERSION,
        "training": unstructure(payload.tf_training_config),
        "pt_data": unstructure(payload.pt_data_config),
        "pt_model": unstructure(payload.pt_model_config),
        "pt_training": unstructure(payload.pt_training_config),
        "pt_inference": unstructure(payload.pt_inference_config),
        "execution": unstructure(payload.execution_config),
        "execution_explicit": sorted(payload.execution_config.explicit),
        # The values are in the records.
        "overrides_applied": sorted(payload.overrides_applied),
        "provenance": {key: str(layer) for key, layer in sorted(payload.provenance.items())},
    }
    return json.dumps(data, indent=1, allow_nan=False)


def payload_from_json(text: str) -> TrainingPayload:
    """Return the payload that `payload_to_json` wrote down.

    Raises:
        ConfigError: the text is not JSON, is of another format version, or has a field that is missing, unknown, not
            valid or in contradiction to another record.
    """
    data = _parsed(text)
    raise_if_any(ConfigError, _SUBJECT, _wrong(data))
    training = structure(TrainingConfig, data["training"])
    pt_data = structure(DataConfig, data["pt_data"])
    pt_model = structure(TorchModelConfig, data["pt_model"])
    pt_training = structure(TorchTrainingConfig, data["pt_training"])
    pt_inference = structure(TorchInferenceConfig, data["pt_inference"])
    execution = structure(PyTorchExecutionConfig, data["execution"])
    remember(execution, frozenset(_names(data["execution_explicit"])))
    values = settings_of(training.model, training, pt_data, pt_model, pt_training, pt_inference, execution)
    return TrainingPayload(
        tf_training_config=training,
        pt_data_config=pt_data,
        pt_model_config=pt_model,
        pt_training_config=pt_training,
        pt_inference_config=pt_inference,
        execution_config=execution,
        overrides_applied=Settings(TRAINING, {key: values[key] for key in _names(data["overrides_applied"])}),
        provenance=Settings(TRAINING, _provenance(data["provenance"])),
    )


def _wrong(data: Mapping[str, object]) -> Iterator[Problem]:
    """Yield what is wrong with the parts, whatever they hold."""
    for name, record in _RECORDS.items():
        try:
            structure(record, data[name], name)
        except ConfigError as error:
            yield from error.problems
    for name in ("execution_explicit", "overrides_applied"):
        if not _names(data[name]) and data[name] != []:
            yield Problem(path=name, expected="a list of settings", found=shown(data[name]))
    if _provenance(data["provenance"]).keys() != {info.key for info in TRAINING}:
        found = shown(data["provenance"])
        yield Problem(path="provenance", expected="the layer of every setting", found=found)


def _parsed(text: str) -> Mapping[str, object]:
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(_SUBJECT, [Problem(path="text", expected="JSON", found=str(error))]) from error
    if not isinstance(data, dict):
        raise ConfigError(_SUBJECT, [Problem(path="text", expected="a JSON object", found=shown(data))])
    version: object = data.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ConfigError(
            _SUBJECT, [Problem(path="format_version", expected=str(FORMAT_VERSION), found=shown(version))]
        )
    unknown = [Problem(path=name, expected="a known part", found="an unknown one") for name in data.keys() - _NAMES]
    absent = [Problem(path=name, expected="a value", found="nothing") for name in _NAMES - data.keys()]
    raise_if_any(ConfigError, _SUBJECT, sorted(unknown + absent, key=str))
    return data


def _names(data: object) -> list[str]:
    """Return a list of settings; an empty one for anything else."""
    return data if isinstance(data, list) and all(isinstance(name, str) and name in TRAINING for name in data) else []


def _provenance(data: object) -> dict[str, Layer]:
    """Return the settings of a mapping that come from a known layer."""
    layers = {str(layer): layer for layer in Layer}
    items = data.items() if isinstance(data, dict) else ()
    return {key: layers[value] for key, value in items if isinstance(value, str) and value in layers}
