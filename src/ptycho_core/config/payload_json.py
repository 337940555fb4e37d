"""A training payload as JSON text, for archives, and back."""

# Annotations are read at run time to check values, so they are not postponed here.
import json
from collections.abc import Mapping
from typing import Final

import attrs

from ptycho_core.config.bridge import settings_of
from ptycho_core.config.canonical import TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.knob import Knob, Rule
from ptycho_core.config.older_payloads import brought_up, format_of, newest
from ptycho_core.config.overrides import Layer, Settings
from ptycho_core.config.payload import TrainingPayload
from ptycho_core.config.record import Record, remember
from ptycho_core.config.serialize import structure, unstructure
from ptycho_core.config.table import TRAINING
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

_SUBJECT = "training payload"
_KEYS = frozenset(info.key for info in TRAINING)
_SETTINGS = Knob(
    "names of settings",
    rules=(Rule(expected="a list of settings", holds=lambda v: isinstance(v, tuple) and _KEYS.issuperset(v)),),
).metadata()


@attrs.frozen(kw_only=True, slots=False, these={key: attrs.field(type=Layer) for key in sorted(_KEYS)})
class _Sources(Record):
    """The layer of every setting."""


@attrs.frozen(kw_only=True, slots=False)
class _Stored(Record):
    """A payload as an archive holds it: the records, and by name what says how they came about."""

    format_version: int
    training: TrainingConfig
    pt_data: DataConfig
    pt_model: TorchModelConfig
    pt_training: TorchTrainingConfig
    pt_inference: TorchInferenceConfig
    execution: PyTorchExecutionConfig
    execution_explicit: tuple[str, ...] = attrs.field(metadata=_SETTINGS)
    # The values are in the records.
    overrides_applied: tuple[str, ...] = attrs.field(metadata=_SETTINGS)
    provenance: _Sources


FORMAT_VERSION: Final[int] = newest(_Stored)
"""The format of payloads; a new field says the next number with `Since`, and so makes it this one."""


@attrs.frozen(kw_only=True)
class ReadPayload:
    """A payload as it was read.

    Attributes:
        payload: in the present form.
        format_version: that it was written in.
        added: settings by key that this format did not have, each with the value under which a run is as it was.
    """

    payload: TrainingPayload
    format_version: int
    added: Mapping[str, object]


def payload_to_json(payload: TrainingPayload) -> str:
    """Return the payload as JSON text; `payload_from_json` gives it back, field for field."""
    stored = _Stored(
        format_version=FORMAT_VERSION,
        training=payload.tf_training_config,
        pt_data=payload.pt_data_config,
        pt_model=payload.pt_model_config,
        pt_training=payload.pt_training_config,
        pt_inference=payload.pt_inference_config,
        execution=payload.execution_config,
        execution_explicit=tuple(sorted(payload.execution_config.explicit)),
        overrides_applied=tuple(sorted(payload.overrides_applied)),
        provenance=_Sources(**payload.provenance),
    )
    return json.dumps(unstructure(stored), indent=1)


def payload_from_json(text: str) -> TrainingPayload:
    """Return the payload that `payload_to_json` wrote down, now or in an older version.

    Raises:
        ConfigError: as `read_payload` does.
    """
    return read_payload(text).payload


def read_payload(text: str) -> ReadPayload:
    """Return the payload that `payload_to_json` wrote down, now or in an older version, and what that did not have yet.

    Raises:
        ConfigError: the text is not JSON, is of a format version that is not known, or has a field that is missing
            although that version had it, unknown to it, not valid or in contradiction to another record.
    """
    data = _parsed(text)
    version = format_of(_Stored, data)
    if "format_version" not in data:
        problem = Problem(path="format_version", expected="a value", found="nothing")
        raise ConfigError(_SUBJECT, [problem])
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= FORMAT_VERSION:
        expected = f"a number from 1 to {FORMAT_VERSION}"
        raise ConfigError(_SUBJECT, [Problem(path="format_version", expected=expected, found=shown(version))])
    present, added, problems = brought_up(_Stored, data, version)
    try:
        stored = structure(_Stored, present, "")
    except ConfigError as error:
        raise ConfigError(_SUBJECT, [*problems, *error.problems]) from None
    raise_if_any(ConfigError, _SUBJECT, problems)
    return ReadPayload(payload=_payload(stored), format_version=version, added=added)


def _payload(stored: _Stored) -> TrainingPayload:
    remember(stored.execution, frozenset(stored.execution_explicit))
    records = (stored.pt_data, stored.pt_model, stored.pt_training, stored.pt_inference, stored.execution)
    # The torch side holds every key, but no canonical spelling for a grid that is not square.
    values = settings_of(stored.training.model, *records)
    return TrainingPayload(
        tf_training_config=stored.training,
        pt_data_config=stored.pt_data,
        pt_model_config=stored.pt_model,
        pt_training_config=stored.pt_training,
        pt_inference_config=stored.pt_inference,
        execution_config=stored.execution,
        overrides_applied=Settings(TRAINING, {key: values[key] for key in stored.overrides_applied}),
        provenance=Settings(TRAINING, attrs.asdict(stored.provenance)),
    )


def _parsed(text: str) -> Mapping[str, object]:
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(_SUBJECT, [Problem(path="text", expected="JSON", found=str(error))]) from None
    if not isinstance(data, dict):
        raise ConfigError(_SUBJECT, [Problem(path="text", expected="a JSON object", found=shown(data))])
    return data
