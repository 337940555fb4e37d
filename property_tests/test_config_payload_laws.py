"""Laws of payloads."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ptycho_adapters import legacy
from ptycho_core import (
    InferencePayload,
    PyTorchExecutionConfig,
    TrainingPayload,
    from_training_config,
    resolve_inference,
    resolve_training,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_core.config import TorchModelConfig, evolve
from ptycho_core.config.bridge import TorchTrainingRecords, settings_of
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, ScanFacts
from ptycho_core.config.payload_json import payload_from_json, payload_to_json
from ptycho_core.config.table import INFERENCE, TRAINING, FieldInfo, Table
from ptycho_core.errors import ConfigError
from strategies_config import ANYTHING, free, inference_settings, of_setting, training_settings

if TYPE_CHECKING:
    from collections.abc import Callable

OUT = Path("out")
TEST_FILE = {"test_data_file": Path("test.npz")}
FACTS = st.builds(
    ScanFacts,
    path=st.just(Path("scan.npz")),
    N=st.sampled_from([64, 128, 256]),
    nphotons=st.none() | st.floats(1, 1e12),
)
EXECUTION_FREE = {
    info.key: of_setting(info)
    for info in free(TRAINING)
    if info.key in {field.name for field in attrs.fields(PyTorchExecutionConfig)}
}


@st.composite
def executions(draw: st.DrawFn) -> PyTorchExecutionConfig:
    """Return execution records on which some fields were set."""
    names = draw(st.lists(st.sampled_from(sorted(EXECUTION_FREE)), max_size=5, unique=True))
    return evolve(PyTorchExecutionConfig(), **{name: draw(EXECUTION_FREE[name]) for name in names})


PAYLOADS = st.builds(
    resolve_training,
    FACTS,
    training_settings(groups=True).map(lambda given: {**given, **TEST_FILE}),
    executions(),
    training_settings(),
    output_dir=st.just(OUT),
)


@given(payload=PAYLOADS)
def test_the_records_of_a_training_agree(payload: TrainingPayload) -> None:
    """The bridge takes the torch-side records to the canonical one and back."""
    torch_side = TorchTrainingRecords(payload.pt_data_config, payload.pt_model_config, payload.pt_training_config)
    model = to_model_config(torch_side.data, torch_side.model)

    assert to_training_config(model, *torch_side) == payload.tf_training_config
    assert from_training_config(payload.tf_training_config, torch_side) == torch_side


@given(facts=FACTS, payload=PAYLOADS, given_settings=inference_settings(groups=True))
def test_the_records_of_a_reconstruction_agree(
    facts: ScanFacts, payload: TrainingPayload, given_settings: dict[str, object]
) -> None:
    """The bridge takes the torch-side records to the canonical one."""
    assume(not any(INFERENCE[key].knob.in_weights for key in given_settings))
    inference = reconstruct(facts, payload, given_settings)
    model = to_model_config(inference.pt_data_config, inference.pt_model_config)

    assert (
        to_inference_config(model, inference.pt_data_config, inference.pt_inference_config)
        == inference.tf_inference_config
    )


def reconstruct(facts: ScanFacts, payload: TrainingPayload, overrides: dict[str, object]) -> InferencePayload:
    archive = ArchiveFacts(path=Path("model"), training=payload)
    return resolve_inference(InferenceFacts(scan=facts, archive=archive), overrides, output_dir=OUT)


@given(facts=FACTS, payload=PAYLOADS)
def test_the_archive_speaks_before_the_scan(facts: ScanFacts, payload: TrainingPayload) -> None:
    """Everything that describes the model is as it was trained."""
    inference = reconstruct(facts, payload, {"n_groups": 1})
    trained, used = settings_of(*payload.records), settings_of(*inference.records)

    assert all(used[key] == trained[key] for key, layer in inference.provenance.items() if layer is Layer.ARCHIVE)
    assert inference.provenance["N"] is inference.provenance["gridsize"] is Layer.ARCHIVE


@given(facts=FACTS, given_settings=training_settings(groups=True), execution=executions(), cli=training_settings())
def test_each_setting_comes_from_the_highest_layer(
    facts: ScanFacts, given_settings: dict[str, object], execution: PyTorchExecutionConfig, cli: dict[str, object]
) -> None:
    """Explicit beats execution beats command line beats the scan, in every record that holds the key."""
    payload = resolve_training(facts, given_settings, execution, cli, output_dir=OUT)
    passed = {name: getattr(execution, name) for name in execution.explicit}
    expected = cli | passed | given_settings

    assert dict(payload.overrides_applied) == expected
    for record in payload.records:
        said = settings_of(record)
        assert all(said[key] == expected[key] for key in said.keys() & expected.keys())


@given(facts=FACTS, given_settings=training_settings(groups=True), execution=executions())
def test_resolution_is_pure(
    facts: ScanFacts, given_settings: dict[str, object], execution: PyTorchExecutionConfig
) -> None:
    """Equal arguments give equal payloads; arguments and legacy parameters do not change."""
    before = copy.deepcopy((facts, given_settings, execution, legacy.cfg))

    first = resolve_training(facts, given_settings, execution, output_dir=OUT)
    second = resolve_training(facts, given_settings, execution, output_dir=OUT)

    assert first == second
    assert before == (facts, given_settings, execution, legacy.cfg)


@given(calls=st.lists(st.tuples(FACTS, training_settings(groups=True)), min_size=2, max_size=4))
def test_resolution_may_run_in_threads(calls: list[tuple[ScanFacts, dict[str, object]]]) -> None:
    """Concurrent trainings and reconstructions are resolved as they are one after the other."""

    def call(arguments: tuple[ScanFacts, dict[str, object]]) -> tuple[TrainingPayload, InferencePayload]:
        training = resolve_training(*arguments, output_dir=OUT)
        return training, reconstruct(arguments[0], training, {"n_groups": 1})

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(call, calls))

    assert together == [call(arguments) for arguments in calls]


@given(payload=PAYLOADS)
def test_json_keeps_payloads(payload: TrainingPayload) -> None:
    """Writing and reading is the identity, sources and overrides included."""
    twin = payload_from_json(payload_to_json(payload))

    assert twin == payload
    assert dict(twin.overrides_applied) == dict(payload.overrides_applied)
    assert twin.execution_config.explicit == payload.execution_config.explicit


NAMES = st.sampled_from(sorted({*TRAINING.names, *INFERENCE.names})) | st.text(max_size=5)


@given(facts=FACTS, overrides=st.dictionaries(NAMES, ANYTHING), cli=st.dictionaries(NAMES, ANYTHING))
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_resolution_is_total(facts: ScanFacts, overrides: dict[str, object], cli: dict[str, object]) -> None:
    """Any values give a payload or a configuration error that can be read, for a training and a reconstruction."""
    model = InferenceFacts(scan=facts, archive=ArchiveFacts(path=Path("m")))
    calls: dict[Table, Callable[[], TrainingPayload | InferencePayload]] = {
        TRAINING: lambda: resolve_training(facts, overrides, cli=cli, output_dir=OUT),
        INFERENCE: lambda: resolve_inference(model, overrides, cli=cli, output_dir=OUT),
    }
    for table, call in calls.items():
        try:
            payload = call()
        except ConfigError as error:
            assert str(error)  # noqa: PT017 - success is fine too
        else:
            assert payload.overrides_applied.keys() <= {table.key(name) for name in (*overrides, *cli)}


@given(facts=FACTS, given_settings=training_settings(groups=True))
def test_settings_mean_the_same_after_json(facts: ScanFacts, given_settings: dict[str, object]) -> None:
    """Paths as text and tuples as lists resolve to the same run."""
    read: dict[str, object] = json.loads(json.dumps(given_settings, default=str))

    direct = resolve_training(facts, given_settings, output_dir=OUT)

    assert resolve_training(facts, read, output_dir=OUT) == direct


# What belongs to the default architecture is free there; test_architecture_settings looks at it under the others.
REFUSABLE = [
    (table, info, of_setting(info))
    for table in (TRAINING, INFERENCE)
    for info in table
    if info.honoured and TorchModelConfig().architecture not in info.knob.part_of
]


@given(data=st.data(), case=st.sampled_from(REFUSABLE), facts=FACTS)
def test_what_cannot_be_honoured_is_refused(
    data: st.DataObject, case: tuple[Table, FieldInfo, st.SearchStrategy[object]], facts: ScanFacts
) -> None:
    """Of a setting that cannot be chosen freely, every valid value but the honoured ones is refused by name."""
    table, info, values = case
    value = data.draw(values)
    as_read, problems = info.read(value, info.key)
    assert not problems
    overrides: dict[str, object] = {"n_groups": 1, info.key: value}
    archive = InferenceFacts(scan=facts, archive=ArchiveFacts(path=Path("m")))

    def call() -> object:
        if table is TRAINING:
            return resolve_training(facts, overrides, output_dir=OUT)
        return resolve_inference(archive, overrides, output_dir=OUT)

    if info.honours(as_read, TorchModelConfig().architecture):
        assert call() is not None
        return
    with pytest.raises(ConfigError, match=info.key):
        call()
