"""What only one kind of run reads is refused by the other kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptycho_core import InferencePayload, PyTorchExecutionConfig, TrainingPayload, resolve_inference, resolve_training
from ptycho_core.config.knob import Phase
from ptycho_core.config.overrides import Layer, resolve
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, ScanFacts
from ptycho_core.config.table import ALL, INFERENCE, TRAINING, Table
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCAN = ScanFacts(path=Path("scan.npz"), N=64)
OUT = Path("out")


def train(overrides: Mapping[str, object] | None = None, **execution: object) -> TrainingPayload:
    record = PyTorchExecutionConfig(**execution)  # type: ignore[arg-type]
    return resolve_training(SCAN, {"n_groups": 8, **(overrides or {})}, record, output_dir=OUT)


def reconstruct(
    overrides: Mapping[str, object] | None = None, training: TrainingPayload | None = None, **execution: object
) -> InferencePayload:
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model"), training=training))
    record = PyTorchExecutionConfig(**execution)  # type: ignore[arg-type]
    return resolve_inference(facts, {"n_groups": 8, **(overrides or {})}, record, output_dir=OUT)


OF_A_TRAINING: dict[str, object] = {
    "learning_rate": 0.1,
    "scheduler": "Exponential",
    "accum_steps": 2,
    "gradient_clip_val": 3.0,
    "gradient_clip_algorithm": "agc",
    "strategy": "ddp",
    "deterministic": False,
    "pin_memory": True,
    "checkpoint_every_s": 5.0,
    "checkpoint_save_top_k": 3,
    "checkpoint_monitor_metric": "train_loss",
    "checkpoint_mode": "max",
    "early_stop_patience": 5,
    "logger_backend": "tensorboard",
    "max_time": "00:00:10:00",
    "resume": Path("last.ckpt"),
}


@pytest.mark.parametrize(("name", "value"), OF_A_TRAINING.items(), ids=OF_A_TRAINING)
def test_a_reconstruction_refuses_what_only_a_training_reads(name: str, value: object) -> None:
    """By whatever layer it comes, the message names the setting, whose it is, and what to do."""
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model")))
    told = f"{name} belongs to a training, a reconstruction does not read it: leave it out"

    with pytest.raises(ConfigError, match=rf"explicit\.{name}: .*; {told}$"):
        reconstruct({name: value})
    with pytest.raises(ConfigError, match=rf"execution\.{name}: .*; {told}$"):
        reconstruct(None, None, **{name: value})
    for layer in ("cli", "file"):
        with pytest.raises(ConfigError, match=rf"{layer}\.{name}: .*; {told}$"):
            resolve_inference(facts, {"n_groups": 8}, output_dir=OUT, **{layer: {name: value}})  # type: ignore[arg-type]


def test_all_of_them_are_named_at_once() -> None:
    """One error lists every setting that is out of place."""
    with pytest.raises(ConfigError) as error:
        reconstruct(OF_A_TRAINING)

    assert {problem.path for problem in error.value.problems} == {f"explicit.{name}" for name in OF_A_TRAINING}


@pytest.mark.parametrize(
    ("name", "value"), [("inference_batch_size", 4), ("probe_source", "scan"), ("patch_weighting", "uniform")]
)
def test_a_training_refuses_what_only_a_reconstruction_reads(name: str, value: object) -> None:
    """The same law holds the other way round."""
    with pytest.raises(ConfigError, match=rf"explicit\.{name}: .*{name} belongs to a reconstruction, a training does"):
        train({"architecture": "unet", name: value})


def test_execution_settings_of_a_reconstruction_are_none_of_a_training() -> None:
    """The record holds settings for both kinds of run; each says which of them it cannot use."""
    with pytest.raises(ConfigError, match=r"execution\.inference_batch_size: expected None, the default, found 4;"):
        train(inference_batch_size=4)


def test_asking_for_what_happens_anyway_is_fine() -> None:
    """Defaults may be said, and so may values that ask for nothing."""
    said = attrs.asdict(PyTorchExecutionConfig(), recurse=False)

    assert reconstruct(**said).execution_config == PyTorchExecutionConfig()
    assert train(**said).execution_config == PyTorchExecutionConfig()
    nothing = {"logger_backend": None, "enable_checkpointing": False, "gradient_clip_val": None}
    assert reconstruct(nothing).execution_config.logger_backend is None


@pytest.mark.parametrize("name", ["nepochs", "epochs", "optimizer", "probe_trainable", "train_data_file", "device_x"])
def test_names_of_the_other_kind_of_run_are_known_by_name(name: str) -> None:
    """A training's record field in a reconstruction is called what it is; only a real stranger is unknown."""
    problem = INFERENCE.unknown(name, f"cli.{name}")

    if name in TRAINING.names:
        assert str(problem) == (
            f"cli.{name}: expected a setting of a reconstruction, found one of a training; leave it out"
        )
    else:
        assert problem.found == "an unknown name"
    assert "a setting of a training, found one of a reconstruction" in str(TRAINING.unknown("model_path", "x"))


def test_the_other_batch_size_is_pointed_at() -> None:
    """A reconstruction has one of its own under another name."""
    with pytest.raises(ConfigError, match="found one of a training; leave it out, or say inference_batch_size"):
        reconstruct({"batch_size": 4})


def test_tables_that_serve_no_run_know_no_other_kind() -> None:
    """The bridge's tables have names and strangers only."""
    assert ALL.phase is Phase.BOTH
    assert ALL.unknown("spam", "x").found == "an unknown name"


TRAINED: dict[str, object] = {
    "learning_rate": 0.1,
    "scheduler": "Exponential",
    "gridsize": 2,
    "neighbor_count": 7,
    "probe_mask": True,
    "torch_loss_mode": "mae",
    "num_workers": 2,
    "nepochs": 3,
}


def test_what_an_archive_says_of_its_training_is_no_demand() -> None:
    """A model trained with settings of its own is reconstructed with; what describes it is handed on."""
    payload = reconstruct(training=train(TRAINED, num_workers=2, persistent_workers=True, early_stop_patience=5))

    assert payload.execution_config == PyTorchExecutionConfig()
    assert (payload.pt_data_config.grid_size, payload.pt_data_config.K) == ((2, 2), 7)
    assert (payload.pt_model_config.probe_mask, payload.pt_model_config.loss_function) == (True, "MAE")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gridsize", 3),
        ("K", 10),
        ("probe_mask", False),
        ("loss_function", "Poisson"),
        ("mode", "Supervised"),
        ("probe_mask_sigma", 2.0),
        ("intensity_scale_trainable", True),
        ("N", 128),
    ],
)
def test_a_model_is_what_it_was_trained_as(name: str, value: object) -> None:
    """What describes the model may be repeated; anything else is refused, whether or not a default."""
    training = train(TRAINED)
    key = INFERENCE.names[name]
    archived = TRAINING.spelled(name, ArchiveFacts(path=Path("model"), training=training).layer()[key])

    assert reconstruct({name: archived}, training).provenance[key] is Layer.EXPLICIT
    with pytest.raises(
        ConfigError,
        match=rf"explicit\.{key}: expected .*, as the archive, found .*; the model was trained with it: leave it out",
    ):
        reconstruct({name: value}, training)


def test_a_mask_is_what_it_was_trained_with() -> None:
    """Arrays are compared as arrays, and an array is not the lack of one."""
    mask = np.eye(64)
    masked = train({"probe_mask_tensor": mask})

    assert reconstruct({"probe_mask_tensor": mask.tolist()}, masked).pt_model_config.probe_mask_tensor is not None
    for training, other in ((masked, 2 * mask), (masked, None), (train(), mask)):
        with pytest.raises(ConfigError, match=r"probe_mask_tensor: expected .*as the archive"):
            reconstruct({"probe_mask_tensor": other}, training)


def test_without_an_archive_the_model_may_be_described() -> None:
    """What nobody could read may be said."""
    assert reconstruct({"gridsize": 1, "neighbor_count": 5, "probe_mask": True}).pt_data_config.grid_size == (1, 1)


@pytest.mark.parametrize("name", ["enable_oversampling", "neighbor_pool_size"])
def test_a_reconstruction_draws_no_groups(name: str) -> None:
    """How groups are drawn is a training's business."""
    with pytest.raises(ConfigError, match=f"{name} belongs to a training"):
        reconstruct({name: {"enable_oversampling": True, "neighbor_pool_size": 9}[name]})


def test_workers_are_taken_with_a_warning() -> None:
    """Existing callers pass them to reconstructions; they are told that there is nothing to load."""
    told = r"num_workers has no effect on a reconstruction: its patterns are on the device"

    with pytest.warns(UserWarning, match=told):
        payload = reconstruct(num_workers=4)

    assert (payload.execution_config.num_workers, payload.provenance["num_workers"]) == (4, Layer.EXECUTION)
    assert reconstruct(num_workers=0).execution_config.num_workers == 0
    assert train(num_workers=4).execution_config.num_workers == 4


@pytest.mark.parametrize("table", [TRAINING, INFERENCE], ids=["training", "reconstruction"])
def test_what_is_asked_of_the_other_kind_is_printed_as_refused(table: Table) -> None:
    """The refusals of a merged configuration need no facts."""
    from ptycho_core.config.payload import refusals  # noqa: PLC0415 - its only use

    strange = {"learning_rate": 0.1} if table is INFERENCE else {"probe_source": "scan"}

    (problem,) = refusals(resolve({Layer.CLI: strange, Layer.FILE: {"seed": 1}}, table), table)

    assert problem.path == f"cli.{next(iter(strange))}"
