"""Laws of settings that only one kind of run reads."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core import InferencePayload, TrainingPayload, resolve_inference, resolve_training
from ptycho_core.config.bridge import settings_of
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, ScanFacts
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE, TRAINING, FieldInfo, Table
from ptycho_core.errors import ConfigError
from strategies_config import ANYTHING, of_setting, training_settings

OUT = Path("out")
SCAN = ScanFacts(path=Path("scan.npz"), N=64)
LAYERS = st.sampled_from(["overrides", "cli", "file"])
FOREIGN = [
    (table, info, of_setting(info))
    for table in (TRAINING, INFERENCE)
    for info in table
    if not table.reads(info) and info.key not in OF_ARCHIVE and not info.honoured
]
DESCRIBING = [
    (info, of_setting(info))
    for info in INFERENCE
    if info.key in OF_ARCHIVE and not info.honoured and (info.knob.in_weights or not INFERENCE.reads(info))
]
ONLY_OF_A_TRAINING = st.sampled_from(sorted(TRAINING.names.keys() - INFERENCE.names.keys()))


def resolve(
    table: Table, layer: str, said: dict[str, object], training: TrainingPayload | None = None
) -> TrainingPayload | InferencePayload:
    """Resolve a run of the table's kind with settings in one layer."""
    layers: dict[str, dict[str, object]] = {layer: {"n_groups": 4, **said}}
    if table is TRAINING:
        return resolve_training(SCAN, output_dir=OUT, **layers)  # type: ignore[arg-type]
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model"), training=training))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="num_workers has no effect", category=UserWarning)
        return resolve_inference(facts, output_dir=OUT, **layers)  # type: ignore[arg-type]


@given(data=st.data(), case=st.sampled_from(FOREIGN), layer=LAYERS)
def test_a_value_asks_for_nothing_or_is_refused(
    data: st.DataObject, case: tuple[Table, FieldInfo, st.SearchStrategy[object]], layer: str
) -> None:
    """Of a setting of the other kind of run, the default and what is as good as it pass; the rest is named."""
    table, info, values = case
    value = data.draw(values)
    if value in (info.default, *info.knob.idle) or info.knob.unread:
        assert resolve(table, layer, {info.key: value}).provenance[info.key].chosen
        return
    with pytest.raises(ConfigError, match=f"{info.key} belongs to a {info.phase}, a {table.phase} does not read it"):
        resolve(table, layer, {info.key: value})


@given(settings=training_settings(groups=True), name=st.sampled_from(sorted(OF_ARCHIVE)))
def test_every_model_can_be_reconstructed_with(settings: dict[str, object], name: str) -> None:
    """Whatever a training was told, a reconstruction takes its model as it is, and lets it be repeated."""
    training = resolve_training(SCAN, settings, output_dir=OUT)
    plain = resolve(INFERENCE, "cli", {}, training)
    archived = ArchiveFacts(path=Path("model"), training=training).layer()

    assert plain.provenance[name] in {Layer.ARCHIVE, Layer.TORCH_DEFAULT, Layer.CANONICAL_DEFAULT}
    repeated = resolve(INFERENCE, "cli", {name: archived.get(name, plain_value(plain, name))}, training)
    assert settings_of(*repeated.records) == settings_of(*plain.records)


def plain_value(payload: TrainingPayload | InferencePayload, key: str) -> object:
    """Return the effective value of a setting."""
    return settings_of(*payload.records)[key]


@given(data=st.data(), case=st.sampled_from(DESCRIBING), layer=LAYERS, settings=training_settings(groups=True))
def test_a_model_is_what_it_was_trained_as(
    data: st.DataObject, case: tuple[FieldInfo, st.SearchStrategy[object]], layer: str, settings: dict[str, object]
) -> None:
    """What describes a model is the archive's value or refused, even where it is the default."""
    info, values = case
    training = resolve_training(SCAN, settings, output_dir=OUT)
    archived = settings_of(*training.records)[info.key]
    value = data.draw(values)
    if np.array_equal(value, archived):  # type: ignore[arg-type]
        assert resolve(INFERENCE, layer, {info.key: value}, training).provenance[info.key].chosen
        return
    with pytest.raises(ConfigError, match=rf"\.{info.key}: .*as the archive"):
        resolve(INFERENCE, layer, {info.key: value}, training)


@given(name=ONLY_OF_A_TRAINING, value=ANYTHING, layer=LAYERS)
def test_a_name_of_the_other_kind_is_called_that(name: str, value: object, layer: str) -> None:
    """Whatever the value, the message says whose setting it is."""
    with pytest.raises(ConfigError, match=rf"\.{name}: .*found one of a training; leave it out"):
        resolve(INFERENCE, layer, {name: value})
