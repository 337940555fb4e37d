"""The field table: complete, without contradictions, and the only source of names."""

from __future__ import annotations

import attrs
import pytest

from ptycho_core.config.knob import Effect, Phase, entry_of
from ptycho_core.config.serialize import MismatchError, coerce
from ptycho_core.config.table import ALL, DEFAULTS, EVERY, INFERENCE, TORCH_SIDE, TRAINING, FieldInfo, fields

EXEMPT = {"model", "n_images"}


@pytest.mark.parametrize("info", fields(), ids=lambda info: info.key)
def test_every_setting_is_described(info: FieldInfo) -> None:
    """Help, owners and, where it cannot be chosen freely, the reason are there."""
    assert info.doc
    assert not info.doc.endswith(".")
    assert info.owners
    assert bool(info.knob.why) == (info.effect is Effect.FIXED)


@pytest.mark.parametrize("info", fields(), ids=lambda info: info.key)
def test_every_setting_has_its_kind_of_run(info: FieldInfo) -> None:
    """A setting of one kind of run is in that run's table, and only such a one can be idle or unread in the other."""
    tables = {Phase.TRAINING: TRAINING, Phase.RECONSTRUCTION: INFERENCE}

    assert info.phase is Phase.BOTH or info.key in tables[info.phase]
    assert info.phase is not Phase.BOTH or not (info.knob.idle or info.knob.unread)
    for value in info.knob.idle:
        assert info.read(value, info.key) == (value, [])
        assert value != info.default


@pytest.mark.parametrize("record", EVERY, ids=lambda record: record.__name__)
def test_every_field_is_in_the_table(record: type[attrs.AttrsInstance]) -> None:
    """No record has a field that the table does not know."""
    held = {field.name for field in attrs.fields(record) if entry_of(field) is not None}

    assert held | EXEMPT >= {field.name for field in attrs.fields(record)}
    assert {owner.attribute for info in ALL for owner in info.owners if owner.record is record} == held


def test_no_name_stands_for_two_settings() -> None:
    """Keys and aliases are all different."""
    names = [name for info in ALL for name in (info.key, *info.aliases)]

    assert len(names) == len(set(names))


def test_torch_side_defaults_agree() -> None:
    """Torch-side records have one default per setting, but for the folder that each kind of run writes to."""
    seen: dict[str, set[object]] = {}
    for record in TORCH_SIDE:
        for key, value in DEFAULTS[record].items():
            seen.setdefault(key, set()).add(repr(value))

    assert {key for key, values in seen.items() if len(values) > 1} == {"output_dir"}


@pytest.mark.parametrize("table", [TRAINING, INFERENCE], ids=["training", "inference"])
def test_defaults_pass_their_own_rules(table: list[FieldInfo]) -> None:
    """Reading a default gives it back, unless a run has to be told the setting."""
    for info in table:
        if info.key not in {"n_groups", "model_path"}:
            assert info.read(info.default, info.key) == (info.default, [])


def test_what_only_a_reconstruction_has_is_no_training_setting() -> None:
    """A training knows no model path."""
    assert "model_path" not in TRAINING
    assert "model_path" in INFERENCE
    assert "nepochs" not in INFERENCE


def test_aliases_lead_to_their_keys() -> None:
    """The documented spellings are one key each."""
    groups = {
        "nepochs": ("epochs", "max_epochs"),
        "neighbor_count": ("K",),
        "gridsize": ("grid_size",),
        "model_type": ("mode",),
        "n_groups": ("n_images",),
        "nll_weight": ("nll",),
        "torch_loss_mode": ("loss_function",),
        "accelerator": ("device",),
        "devices": ("n_devices",),
    }

    assert {info.key: info.aliases for info in ALL if info.aliases} == groups


def test_choices_come_from_the_annotation() -> None:
    """A vocabulary is listed once, in the type."""
    assert ALL["accelerator"].choices == ("auto", "cpu", "gpu", "cuda", "tpu", "mps")
    assert ALL["learning_rate"].choices == ()


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(b"x", str), (10**400, float), ({}, int), ((1, 2), int), ("a\0b", type(None)), ([1, "a"], tuple[int, ...])],
)
def test_coercion_refuses_rather_than_guesses(value: object, annotation: object) -> None:
    """What is not of the type is an error of its own kind."""
    with pytest.raises(MismatchError):
        coerce(value, annotation)
