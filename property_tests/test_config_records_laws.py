"""Laws of the records: total validation, idempotence, JSON, derived values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.config import DataConfig, ModelConfig, TrainingConfig, evolve
from ptycho_core.config.payload_json import payload_from_json
from ptycho_core.config.serialize import structure, unstructure
from ptycho_core.config.table import EVERY
from ptycho_core.errors import ConfigError
from strategies_config import ANY_RECORD, ANYTHING, JSON

if TYPE_CHECKING:
    from ptycho_core.config.record import Record

NAN = float("nan")


# Either vocabulary is read into these, a mask is rounded, and what is deprecated is forgotten.
TRANSLATED = {"model_type", "mode", "amp_activation", "logger_backend", "probe_mask_tensor", "n_images", "grid_size"}
TRANSLATED |= {"loss_function"}
NEAR_MISSES = ["false", "1", "none", "22", True, False, 0, 1, 2, 64, 1.0, 2.9, 64.0, None, [], [1, 2], [0, 0.5], {}]


def is_kept(given: object, kept: object) -> bool:
    if isinstance(given, list) and isinstance(kept, list):
        return len(given) == len(kept) and all(map(is_kept, given, kept))
    if isinstance(kept, float) and type(given) is int:
        return float(given) == kept
    return type(given) is type(kept) and given == kept


def names_of(record: Record) -> list[str]:
    return [field.name for field in attrs.fields(type(record))]


@given(data=st.data(), record=ANY_RECORD)
def test_validation_is_total(data: st.DataObject, record: Record) -> None:
    """Whatever a field is given, the answer is a record or a configuration error."""
    names = [name for name in names_of(record) if name != "n_images"]
    changes = data.draw(st.dictionaries(st.sampled_from(names), ANYTHING, max_size=5))
    try:
        evolve(record, **changes)
    except ConfigError as error:
        assert {problem.path for problem in error.problems} <= set(names)  # noqa: PT017 - success is fine too


@given(data=JSON, record=st.sampled_from(EVERY))
def test_reading_json_is_total(data: object, record: type[Record]) -> None:
    """No JSON value makes reading fail in another way."""
    with pytest.raises(ConfigError):
        structure(record, data)
    with pytest.raises(ConfigError):
        payload_from_json(json.dumps(data))


@given(record=ANY_RECORD)
def test_construction_is_idempotent(record: Record) -> None:
    """A record built from its own fields is the same record."""
    assert evolve(record) == record
    assert attrs.evolve(record) == record


@given(record=ANY_RECORD)
def test_json_keeps_records(record: Record) -> None:
    """Writing and reading is the identity."""
    assert structure(type(record), json.loads(json.dumps(unstructure(record)))) == record


@given(data=st.data(), record=ANY_RECORD)
def test_reading_keeps_a_value_or_refuses_it(data: st.DataObject, record: Record) -> None:
    """No JSON value becomes another one on the way into a field, but for integers where a float is asked for."""
    fields = {field.name: field.type for field in attrs.fields(type(record)) if field.name not in TRANSLATED}
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(JSON | st.sampled_from(NEAR_MISSES))
    try:
        read = structure(type(record), {**unstructure(record), name: value})
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - success is fine too
    else:
        assert is_kept(value, unstructure(read)[name])


@given(data=st.data(), record=ANY_RECORD)
def test_each_offending_field_is_reported(data: st.DataObject, record: Record) -> None:
    """As many fields as are wrong are named, all in one error."""
    wrong = data.draw(st.sets(st.sampled_from(names_of(record)), min_size=1, max_size=6))

    with pytest.raises(ConfigError) as error:
        evolve(record, **dict.fromkeys(wrong, NAN))

    assert {problem.path for problem in error.value.problems} == wrong


@given(side=st.integers(1, 30))
def test_group_size_is_the_square_of_the_grid(side: int) -> None:
    """Both vocabularies derive the same C."""
    assert ModelConfig(gridsize=side).C == DataConfig(grid_size=(side, side)).C == side**2


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=32, min_value=1, max_value=1e6))
def test_numpy_scalars_are_numbers(value: float) -> None:
    """A NumPy scalar and its Python value give equal records."""
    model = ModelConfig()

    assert TrainingConfig(model=model, nphotons=float(np.float32(value))) == evolve(
        TrainingConfig(model=model), nphotons=np.float32(value)
    )
