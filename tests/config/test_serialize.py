"""Records and payloads as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ptycho_core.config import ModelConfig, PyTorchExecutionConfig, TorchModelConfig, TrainingConfig
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.payload_json import payload_from_json, payload_to_json
from ptycho_core.config.serialize import structure, unstructure
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
    data = dict(unstructure(TrainingConfig(model=ModelConfig())))
    data["model"] = {**unstructure(ModelConfig()), "N": "64"}
    data["extra"] = 1
    del data["nepochs"]

    with pytest.raises(ConfigError) as error:
        structure(TrainingConfig, data)

    assert sorted(problem.path for problem in error.value.problems) == [
        "TrainingConfig.extra",
        "TrainingConfig.model.N",
        "TrainingConfig.nepochs",
    ]


def test_a_payload_survives_json(payload: TrainingPayload) -> None:
    """Records, provenance, overrides and the memory of the execution record come back."""
    twin = payload_from_json(payload_to_json(payload))

    assert twin == payload
    assert dict(twin.overrides_applied) == dict(payload.overrides_applied)
    assert twin.execution_config.explicit == {"accelerator", "num_workers"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format_version",), 2, "format_version"),
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


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, "{}"])
def test_text_that_is_no_payload_is_refused(text: str) -> None:
    """Other text is a configuration error and nothing else."""
    with pytest.raises(ConfigError):
        payload_from_json(text)
