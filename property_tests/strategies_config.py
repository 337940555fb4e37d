"""Strategies for settings and records, derived from the field table."""

from __future__ import annotations

import operator
import string
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, TypeVar, Union, get_args, get_origin

import attrs
import numpy as np
from hypothesis import strategies as st

from ptycho_core.config.canonical import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core.config.knob import DURATION, POWER_OF_TWO, RISING, Knob, entry_of
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.record import Record
from ptycho_core.config.serialize import read_setting
from ptycho_core.config.table import ALL, EVERY, INFERENCE, TRAINING, FieldInfo, Table
from ptycho_core.config.torch_side import TorchTrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R", bound=Record)

TEXT = st.text(string.ascii_letters + string.digits + "_-. é", min_size=1, max_size=12).filter(
    lambda text: text.strip()
)
FLOATS = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-9, 0.5),
    st.floats(-1e3, 1e12, allow_nan=False),
)
INTEGERS = st.one_of(st.integers(1, 9), st.integers(-1, 2000), st.integers(0, 2**40))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)

# Values of any kind a program may pass, with numbers that neither floats nor decimal text can hold.
ANYTHING = JSON | st.sampled_from([2**63, 10**400, -(10**5000)]).flatmap(
    lambda huge: st.sampled_from([huge, [huge], {"x": huge}])
)

_SIDE = ALL["N"].knob


def of_annotation(annotation: object) -> st.SearchStrategy[object]:
    """Return values of a type, whether or not they pass the rules of a setting."""
    origin = get_origin(annotation)
    if origin is Union or origin is UnionType:
        return st.one_of([of_annotation(member) for member in get_args(annotation)])
    if origin is Literal:
        return st.sampled_from(get_args(annotation))
    if origin is tuple:
        members = get_args(annotation)
        if members[-1] is Ellipsis:
            return st.lists(of_annotation(members[0]), max_size=3).map(tuple)
        return st.tuples(*map(of_annotation, members))
    if origin is np.ndarray:
        return st.integers(1, 4).map(lambda size: np.eye(size, dtype=np.float32))
    simple: dict[object, st.SearchStrategy[object]] = {
        bool: st.booleans(),
        int: INTEGERS,
        float: FLOATS,
        str: TEXT,
        Path: TEXT.map(Path),
        NoneType: st.none(),
        PackageGenerator: st.from_regex(r"[a-z0-9]{1,4}(-[a-z]{1,3})?:[A-Za-z]{1,5}", fullmatch=True),
    }
    return simple[annotation]


def of_knob(knob: Knob, annotation: object) -> st.SearchStrategy[object]:
    """Return values that a setting accepts, in the spelling of the annotation."""
    if knob is _SIDE:
        return st.sampled_from([64, 128, 256])  # what every generator takes
    if POWER_OF_TWO in knob.rules:
        return st.integers(0, 12).map(lambda exponent: 2**exponent)
    if DURATION in knob.rules:
        return st.none() | st.builds("{:02d}:{:02d}:00:01".format, st.integers(0, 99), st.integers(0, 23))
    if RISING in knob.rules:
        return st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(lambda pair: tuple(sorted(pair)))
    return of_annotation(annotation).filter(lambda value: not read_setting(knob, value, annotation, "")[1])


def of_setting(info: FieldInfo) -> st.SearchStrategy[object]:
    """Return valid values of a setting, in canonical spelling."""
    return of_knob(info.knob, info.annotation)


@st.composite
def _some_fields(
    draw: st.DrawFn, always: dict[str, st.SearchStrategy[object]], sometimes: dict[str, st.SearchStrategy[object]]
) -> dict[str, object]:
    # A few fields at a time keep the examples cheap; which ones is part of the search.
    names = draw(st.lists(st.sampled_from(sorted(sometimes)), max_size=6, unique=True))
    chosen = always | {name: sometimes[name] for name in names}
    return {name: draw(strategy) for name, strategy in chosen.items()}


def records(record: type[R], **fixed: st.SearchStrategy[object]) -> st.SearchStrategy[R]:
    """Return valid records over their whole domain; `fixed` says how the named fields are drawn."""
    drawn = {
        field.name: of_knob(entry.knob, field.type)
        for field in attrs.fields(record)
        if (entry := entry_of(field)) is not None and field.name not in {*fixed, *_TIED}
    }
    always = {
        field.name: drawn.pop(field.name) for field in attrs.fields(record) if _required(field) and field.name in drawn
    }
    if record in {TrainingConfig, InferenceConfig}:
        always["model"] = _MODELS
    if record is TorchTrainingConfig:
        # The switch and its weight have to agree.
        drawn.pop("nll_weight")
        weights = WEIGHTS.map(lambda weight: {"nll": weight > 0, "nll_weight": weight})
        return st.builds(operator.or_, _some_fields(always | fixed, drawn), weights).map(_build(record))
    return _some_fields(always | fixed, drawn).map(_agreeing).map(_build(record))


def _agreeing(given: dict[str, object]) -> dict[str, object]:
    """Leave error bars out where there is no finish, which they belong to, and their check where there are none."""
    left_out = set() if given.get("finish", "none") != "none" else {"error_bars"}
    if left_out or not given.get("error_bars", False):
        left_out.add("error_bars_check")
    return {name: value for name, value in given.items() if name not in left_out}


def _required(field: attrs.Attribute[object]) -> bool:
    return field.default is attrs.NOTHING


def _build(record: type[R]) -> Callable[[dict[str, object]], R]:
    return lambda given: record(**given)


WEIGHTS = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
# Fields that only go together with others, or whose size depends on others; tests that need them say so.
_TIED = {
    "nll",
    "measurement_domain",
    "scale_contract_version",
    "probe_mask_tensor",
    "persistent_workers",
    "prefetch_factor",
}
_MODELS = records(ModelConfig)


def free(table: Table) -> list[FieldInfo]:
    """Return the settings that the table's kind of run may choose one by one."""
    return [
        info for info in table if not info.honoured and table.reads(info) and info.key not in _TIED | {"num_workers"}
    ]


_OF_SETTING = {info.key: of_setting(info) for info in ALL}
_ARGUMENTS = frozenset({"train_data_file", "test_data_file", "output_dir", "model_path"})


@st.composite
def settings_of_run(draw: st.DrawFn, table: Table, *, groups: bool = False) -> dict[str, object]:
    """Return valid settings of a run, by key; with `groups`, the number of groups is among them."""
    names = [info.key for info in free(table) if info.key not in _ARGUMENTS]
    chosen = draw(st.lists(st.sampled_from(names), max_size=6, unique=True))
    given = _agreeing({key: draw(_OF_SETTING[key]) for key in chosen})
    if "backend" in given:
        given["backend"] = "pytorch"  # honours every valid setting; what the other one refuses has tests of its own
    return given | ({"n_groups": draw(_OF_SETTING["n_groups"])} if groups else {})


def training_settings(*, groups: bool = False) -> st.SearchStrategy[dict[str, object]]:
    """Return valid settings of a training."""
    return settings_of_run(TRAINING, groups=groups)


def inference_settings(*, groups: bool = False) -> st.SearchStrategy[dict[str, object]]:
    """Return valid settings of a reconstruction."""
    return settings_of_run(INFERENCE, groups=groups)


OF_RECORD: dict[type[Record], st.SearchStrategy[Record]] = {record: records(record) for record in EVERY}
ANY_RECORD: st.SearchStrategy[Record] = st.one_of(list(OF_RECORD.values()))
