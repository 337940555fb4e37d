"""Which sides of a pattern a run takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho_core.config import DataConfig, ModelConfig, TorchModelConfig
from ptycho_core.config.bridge import from_training_config, legacy_dict, to_model_config
from ptycho_core.config.canonical import TrainingConfig
from ptycho_core.config.payload import ScanFacts, resolve_training
from ptycho_core.errors import ConfigError


@pytest.mark.parametrize("side", [16, 17, 63, 100, 513, 2048])
def test_the_default_generator_takes_any_side(side: int) -> None:
    """From 16 to 2048 px, odd ones too, in every record and on both ways of the bridge."""
    payload = resolve_training(ScanFacts(path=Path("s.npz"), N=side), {"n_groups": 4}, output_dir=Path("o"))
    model = to_model_config(payload.pt_data_config, payload.pt_model_config)

    assert (payload.pt_data_config.N, model.N, legacy_dict(model)["N"]) == (side, side, side)
    assert side == from_training_config(TrainingConfig(model=model)).data.N


@pytest.mark.parametrize("side", [15, 2049, 0, -64])
def test_a_side_out_of_range_is_refused(side: int) -> None:
    """Smaller ones hold no pattern, larger ones no memory."""
    with pytest.raises(ConfigError, match="N: expected a number from 16 to 2048"):
        DataConfig(N=side)


@pytest.mark.parametrize(
    ("architecture", "side", "words"),
    [
        ("cnn", 100, "64, 128 or 256, as cnn takes"),
        ("unet", 100, "a multiple of 8, as unet takes"),
        ("ffno", 63, "an even number, as ffno takes"),
    ],
)
def test_other_generators_refuse_what_they_cannot_take(architecture: str, side: int, words: str) -> None:
    """By name, with what they take, in the record and in the plan of a run, beside whatever else is wrong."""
    with pytest.raises(ConfigError, match=words):
        ModelConfig(architecture=architecture, N=side)  # type: ignore[arg-type]
    facts = ScanFacts(path=Path("s.npz"), N=side)
    overrides = {"n_groups": 4, "architecture": architecture, "batch_size": 3}
    with pytest.raises(ConfigError) as error:
        resolve_training(facts, overrides, output_dir=Path("o"))

    said = str(error.value)
    assert f"scan.N: expected {words}, found {side}" in said
    assert "batch_size" in said
    assert "ptycho prepare --size" in said


def test_other_generators_take_sides_of_their_own_beside_the_legacy_ones() -> None:
    """A multiple of what a network halves."""
    assert ModelConfig(architecture="unet", N=96).N == 96
    assert ModelConfig(architecture="ffno", N=50).N == 50
    assert TorchModelConfig(architecture="cnn").architecture == "cnn"
