"""Generators of other packages as settings: their names are read strictly, and what belongs to ours is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptycho_core.config import ModelConfig, PackageGenerator, TorchModelConfig
from ptycho_core.config.bridge import legacy_dict
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.payload_json import payload_from_json, payload_to_json
from ptycho_core.config.table import TRAINING, FieldInfo
from ptycho_core.errors import ConfigError

NAME = "lab-networks:residual"
OF_OURS = [info for info in TRAINING if info.knob.part_of and TRAINING.reads(info)]


def _resolved(**settings: object) -> TrainingPayload:
    facts = ScanFacts(path=Path("scan.npz"), N=50)
    return resolve_training(facts, {"n_groups": 4, "architecture": NAME, **settings}, output_dir=Path("out"))


def test_a_package_and_a_name() -> None:
    """It is text with two parts, and stands where an architecture does."""
    name = PackageGenerator(NAME)

    assert (name, name.package, name.generator) == (NAME, "lab-networks", "residual")
    assert TorchModelConfig(architecture=name).architecture == NAME
    assert _resolved().pt_model_config.architecture == _resolved().tf_training_config.model.architecture == NAME


@pytest.mark.parametrize(
    "text", ["residual", "Lab:residual", "lab_networks:residual", "lab:", ":x", "a:b:c", "lab: x", "-a:b", "a:b\n", ""]
)
def test_another_form_is_refused(text: str) -> None:
    """As a value by itself and as a setting, with the form in the message."""
    with pytest.raises(ValueError, match="package:name"):
        PackageGenerator(text)
    with pytest.raises(ConfigError, match=r"architecture: expected one of 'unrolled', .*package:name.*found"):
        ModelConfig(architecture=text)  # type: ignore[arg-type]


@pytest.mark.parametrize("info", OF_OURS, ids=lambda info: info.key)
def test_what_belongs_to_our_networks_is_refused(info: FieldInfo) -> None:
    """Any value but the default, by name and with a reason that holds for the network that was asked for."""
    other: object = {"amp_phase": "real_imag"}.get(str(info.default))
    if not isinstance(info.default, str):
        assert isinstance(info.default, bool | int | float)
        other = not info.default if isinstance(info.default, bool) else info.default + 1

    with pytest.raises(ConfigError, match=rf"explicit\.{info.key}: .*no run can honour this") as refusal:
        _resolved(**{info.key: other})
    assert f"not for {NAME}" in str(refusal.value) or f"{NAME} has no such part" in str(refusal.value)


def test_tensorflow_refuses_it() -> None:
    """By name, with the reason and who can."""
    words = rf"explicit\.architecture: .*found '{NAME}'; backend tensorflow cannot .* backend pytorch can"
    with pytest.raises(ConfigError, match=words):
        _resolved(backend="tensorflow")


def test_it_is_text_in_files_and_in_legacy_parameters() -> None:
    """It comes back from a payload's JSON as what it was, and legacy consumers get its name."""
    payload = _resolved()
    text = payload_to_json(payload)

    assert NAME in json.dumps(json.loads(text))
    assert isinstance(payload_from_json(text).pt_model_config.architecture, PackageGenerator)
    assert legacy_dict(payload.tf_training_config)["architecture"] == NAME
