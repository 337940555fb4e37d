"""Calls past the command line and the payloads are held to the same table of what TensorFlow honours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ptycho_adapters import tensorflow_backend
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ConfigError
from tensorflow_sample import payload_for, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

BEYOND: dict[str, Any] = {
    "probe_rounds": 3,
    "probe_modes": 2,
    "position_refinement": "affine",
    "orientation_search": "always",
    "probe_search": "always",
    "finish": 3,
}


def test_a_reconstruction_names_every_setting_that_it_does_not_honour() -> None:
    """All at once, with the reason and the backend that does, before anything is computed."""
    model = tensorflow_backend.generalist_for(tiny_scan())
    asked, how = TorchInferenceConfig(**BEYOND), PyTorchExecutionConfig(precision="bf16-mixed")

    with pytest.raises(ConfigError) as caught:
        tensorflow_backend.reconstruct(model, tiny_scan(), execution_config=how, inference_config=asked)

    problems = {problem.path: problem for problem in caught.value.problems}
    expected = {f"TorchInferenceConfig.{name}" for name in BEYOND} | {"PyTorchExecutionConfig.precision"}
    assert {*problems} == expected
    assert all("backend pytorch can" in problem.fix for problem in problems.values())


def test_a_training_refuses_what_was_chosen_for_the_other_backend(tmp_path: Path) -> None:
    """A payload of torch with settings that torch alone honours, each by name."""
    chosen: dict[str, Any] = {"probe_trainable": True, "accum_steps": 2, "probe_rounds": 2}
    payload = payload_for("pytorch", tmp_path, **chosen)

    with pytest.raises(ConfigError) as caught:
        tensorflow_backend.train(payload, tiny_scan())

    assert {problem.path.rpartition(".")[2] for problem in caught.value.problems} == {*chosen}
