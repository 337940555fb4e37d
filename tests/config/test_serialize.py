"""Records and payloads as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import numpy as np
import pytest

from ptycho_core.config import DataConfig, ModelConfig, PyTorchExecutionConfig, TorchModelConfig, TrainingConfig, evolve
from ptycho_core.config.knob import Knob, Rule
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.payload_json import payload_from_json, payload_to_json
from ptycho_core.config.record import Record
from ptycho_core.config.serialize import json_value, structure, unstructure
from ptycho_core.errors import ConfigError


@pytest.fixture
def payload() -> TrainingPayload:
    facts = ScanFacts(path=Path("scan.npz"), N=128, nphotons=5e8)
    execution = PyTorchExecutionConfig(accelerator="cpu", num_workers=2)
    return resolve_training(facts, {"n_groups": 64}, execution, output_dir=Path("out"))


def damaged(payload: TrainingPayload, *path: str, value: object) -> str:
    """Return the payload's text with one value replaced."""
    data = json.loads(payload_to_json(payload))
    target = data
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return json.dumps(data)


def test_a_record_survives_json() -> None:
    """Paths, nested records and arrays come back as they were."""
    training = TrainingConfig(model=ModelConfig(N=256), train_data_file=Path("a/b"), nphotons=1 / 3)
    masked = TorchModelConfig(probe_mask_tensor=np.eye(3, dtype=np.float32))

    assert structure(TrainingConfig, json.loads(json.dumps(unstructure(training)))) == training
    assert structure(TorchModelConfig, json.loads(json.dumps(unstructure(masked)))) == masked


def test_reading_lists_every_problem_with_its_path() -> None:
    """Missing, unknown and wrong fields of nested records are all named."""
    data: dict[object, object] = dict(unstructure(TrainingConfig(model=ModelConfig())).items())
    data["model"] = {**unstructure(ModelConfig()), "N": "64", "gridsize": 0}
    data |= {"extra": 1, 2: 1, "batch_size": 5, "probe_trainable": "false"}
    del data["nepochs"]

    with pytest.raises(ConfigError) as error:
        structure(TrainingConfig, data)

    assert sorted(map(str, error.value.problems)) == [
        "TrainingConfig.2: expected a known field, found an unknown one",
        "TrainingConfig.batch_size: expected a positive power of 2, found 5",
        "TrainingConfig.extra: expected a known field, found an unknown one",
        "TrainingConfig.model.N: expected an integer, found '64'",
        "TrainingConfig.model.gridsize: expected a positive number, found 0",
        "TrainingConfig.nepochs: expected a value, found nothing",
        "TrainingConfig.probe_trainable: expected true or false, found 'false'",
    ]


def test_reading_lists_the_contradictions_of_a_record_with_their_path() -> None:
    """What is wrong between fields stands under the place of the record."""
    data = {**unstructure(PyTorchExecutionConfig()), "persistent_workers": True, "prefetch_factor": 2}

    with pytest.raises(ConfigError) as error:
        structure(PyTorchExecutionConfig, data, "execution")

    assert str(error.value) == (
        "execution:"
        "\n  - execution.persistent_workers: expected false with num_workers=0, found True"
        "\n  - execution.prefetch_factor: expected none with num_workers=0, found 2"
    )


def _broken(_: object) -> bool:
    message = "a rule that is wrong itself"
    raise ZeroDivisionError(message)


@attrs.frozen(kw_only=True, slots=False)
class Broken(Record):
    """A record whose rule fails for a reason of its own."""

    side: int = attrs.field(metadata=Knob("side", rules=(Rule(expected="luck", holds=_broken),)).metadata())


attrs.resolve_types(Broken)


def test_an_error_of_the_program_is_not_taken_for_one_of_the_data() -> None:
    """Whatever is no problem of a value comes through as it is."""
    with pytest.raises(ZeroDivisionError, match="wrong itself"):
        structure(Broken, {"side": 1})


@pytest.mark.parametrize("data", [[], None, "text", 3, [("N", 64)]])
def test_only_a_table_is_read_as_a_record(data: object) -> None:
    """Anything else is named as what it is, at the record's place."""
    with pytest.raises(ConfigError) as error:
        structure(ModelConfig, data, "model")

    assert str(error.value) == f"model:\n  - model: expected a table of settings, found {data!r}"
    with pytest.raises(ConfigError) as error:
        structure(ModelConfig, data, "")
    assert [problem.path for problem in error.value.problems] == [""]


def test_a_constructor_takes_records_and_no_tables() -> None:
    """Tables are for files; a program passes the record itself."""
    with pytest.raises(ConfigError, match=r"model: expected ModelConfig, found \{"):
        evolve(TrainingConfig(model=ModelConfig()), model=unstructure(ModelConfig()))


@pytest.mark.parametrize("value", [1j, object(), np.float32(1)], ids=lambda value: type(value).__name__)
def test_what_has_no_place_in_json_is_refused(value: object) -> None:
    """Nothing is written in a form that reading would not give back."""
    with pytest.raises(TypeError, match=type(value).__name__):
        json_value(value)


def test_values_are_written_as_json_has_them() -> None:
    """Paths are text; tuples and arrays are lists, however deep."""
    assert json_value((Path("a/b"), 1, 0.5, None, True)) == ["a/b", 1, 0.5, None, True]
    assert json_value(np.eye(2, dtype=np.float32)) == [[1.0, 0.0], [0.0, 1.0]]
    assert json_value(Layer.CLI) == "cli"
    assert unstructure(DataConfig(grid_size=(2, 2)))["grid_size"] == [2, 2]


def test_a_payload_survives_json(payload: TrainingPayload) -> None:
    """Records, provenance, overrides and the memory of the execution record come back."""
    twin = payload_from_json(payload_to_json(payload))

    assert twin == payload
    assert dict(twin.overrides_applied) == dict(payload.overrides_applied)
    assert twin.execution_config.explicit == {"accelerator", "num_workers"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format_version",), 99, "format_version"),
        (("training", "batch_size"), 5, "training.batch_size"),
        (("training", "batch_size"), 32, "batch_size"),
        (("pt_model", "spare"), 1, "pt_model.spare"),
        (("provenance",), {}, "provenance"),
        (("provenance", "N"), "guess", "provenance"),
        (("overrides_applied",), ["nonsense"], "overrides_applied"),
        (("execution_explicit",), None, "execution_explicit"),
        (("more",), 1, "more"),
    ],
)
def test_a_damaged_payload_is_refused(
    payload: TrainingPayload, path: tuple[str, ...], value: object, message: str
) -> None:
    """Whatever does not fit is named."""
    with pytest.raises(ConfigError, match=message):
        payload_from_json(damaged(payload, *path, value=value))


def test_a_damaged_payload_lists_everything(payload: TrainingPayload) -> None:
    """What is wrong in different parts comes together, each with its path."""
    data = json.loads(payload_to_json(payload))
    data["pt_data"]["N"] = 9
    data["execution"] |= {"num_workers": 0, "persistent_workers": True}
    data["overrides_applied"] = ["nonsense"]
    data["execution_explicit"] = None
    data["provenance"]["N"] = "guess"
    data["more"] = 1
    del data["training"]["model"], data["pt_model"]

    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))

    assert error.value.subject == "training payload"
    assert sorted(problem.path for problem in error.value.problems) == [
        "execution.persistent_workers",
        "execution_explicit",
        "more",
        "overrides_applied",
        "provenance.N",
        "pt_data.N",
        "pt_model",
        "training.model",
    ]


@pytest.mark.parametrize("version", [99, 0, True, 1.0, "1", None])
def test_another_version_is_all_that_is_said(payload: TrainingPayload, version: object) -> None:
    """Where the version differs, the other parts are not judged."""
    data = json.loads(payload_to_json(payload)) | {"format_version": version, "more": 1}

    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))

    expected = f"format_version: expected a number from 1 to 4, found {version!r}"
    assert [str(problem) for problem in error.value.problems] == [expected]


def test_provenance_is_of_every_setting(payload: TrainingPayload) -> None:
    """A layer too few, one too many and one that does not exist are named together."""
    sources = json.loads(payload_to_json(payload))["provenance"] | {"nonsense": "cli", "epochs": "cli", "K": 3}
    sources["gridsize"] = "guess"
    del sources["N"]

    with pytest.raises(ConfigError) as error:
        payload_from_json(damaged(payload, "provenance", value=sources))

    layers = ", ".join(repr(str(layer)) for layer in Layer)
    assert [str(problem) for problem in error.value.problems] == [
        "provenance.K: expected a known field, found an unknown one",
        "provenance.epochs: expected a known field, found an unknown one",
        "provenance.nonsense: expected a known field, found an unknown one",
        "provenance.N: expected a value, found nothing",
        f"provenance.gridsize: expected one of {layers}, found 'guess'",
    ]


def test_a_payload_is_laid_out_to_be_read(payload: TrainingPayload) -> None:
    """The text has one value per line, its parts in a fixed order and its settings in that of their records."""
    text = payload_to_json(payload)
    data = json.loads(text)

    assert text == json.dumps(data, indent=1)
    assert list(data) == [
        "format_version",
        "training",
        "pt_data",
        "pt_model",
        "pt_training",
        "pt_inference",
        "execution",
        "execution_explicit",
        "overrides_applied",
        "provenance",
    ]
    assert list(data["pt_data"]) == [field.name for field in attrs.fields(DataConfig)]
    assert data["overrides_applied"] == sorted(payload.overrides_applied)
    assert list(data["provenance"]) == sorted(payload.provenance)


def test_a_grid_without_a_gridsize_is_refused(payload: TrainingPayload) -> None:
    """A grid that no run can have is a problem, also where somebody is said to have chosen it."""
    data = json.loads(damaged(payload, "pt_data", "grid_size", value=[2, 3])) | {"overrides_applied": ["gridsize"]}

    with pytest.raises(ConfigError, match=r"DataConfig\.grid_size: expected two equal sizes"):
        payload_from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "text: expected JSON, found Expecting property name"),
        ("[]", r"text: expected a JSON object, found \[\]"),
        ("[" * 100_000, "text: expected JSON, found maximum recursion depth"),
    ],
)
def test_what_is_no_json_object_is_said_to_be_none(text: str, problem: str) -> None:
    """The message names the payload and what the text is instead."""
    with pytest.raises(ConfigError, match=f"^training payload:\n  - {problem}"):
        payload_from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, "{}"])
def test_text_that_is_no_payload_is_refused(text: str) -> None:
    """Other text is a configuration error and nothing else."""
    with pytest.raises(ConfigError):
        payload_from_json(text)
