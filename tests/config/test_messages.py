"""What configuration errors say: the whole text of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptycho_core import (
    DataConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    resolve_inference,
    resolve_training,
    to_model_config,
    to_training_config,
)
from ptycho_core.config import evolve
from ptycho_core.config.overrides import Layer, resolve
from ptycho_core.config.payload import ArchiveFacts, InferenceFacts, ScanFacts
from ptycho_core.config.table import TRAINING
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

SCAN = ScanFacts(path=Path("scan.npz"), N=64)
OUT = Path("out")


def train(**overrides: object) -> object:
    return resolve_training(SCAN, {"n_groups": 8, **overrides}, output_dir=OUT)


def resume_without_workers() -> object:
    execution = PyTorchExecutionConfig(num_workers=1, persistent_workers=True)
    return resolve_training(SCAN, {"n_groups": 8, "num_workers": 0, "nll": True}, execution, output_dir=OUT)


def reconstruct(**overrides: object) -> object:
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model")))
    return resolve_inference(facts, {"n_groups": 8, **overrides}, output_dir=OUT)


def other_weights() -> object:
    training = resolve_training(SCAN, {"n_groups": 8}, output_dir=OUT)
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model"), training=training))
    return resolve_inference(facts, cli={"n_groups": 8, "n_filters_scale": 4}, output_dir=OUT)


def records_of_a_training(*, loss: str = "Poisson", **overrides: object) -> object:
    network = evolve(TorchModelConfig(), loss_function=loss)
    return to_training_config(ModelConfig(), DataConfig(), network, TorchTrainingConfig(), overrides)


def mixed_payload() -> object:
    payload = resolve_training(SCAN, {"n_groups": 8}, output_dir=OUT)
    return attrs.evolve(payload, pt_training_config=evolve(payload.pt_training_config, epochs=3))


def mixed_reconstruction() -> object:
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model")))
    payload = resolve_inference(facts, {"n_groups": 8}, output_dir=OUT)
    return attrs.evolve(payload, pt_inference_config=evolve(payload.pt_inference_config, n_groups=3))


def text(subject: str, *problems: str) -> str:
    return "\n  - ".join([f"{subject}:", *problems])


REQUIRED = "n_groups is required in overrides, such as n_groups=512"
A_FILE = "train_data_file is required in overrides, such as train_data_file=Path('train.npz')"
MODEL = "the model was trained with it: leave it out"
MESSAGES: dict[str, tuple[Callable[[], object], str]] = {
    "two spellings": (
        lambda: resolve({Layer.FILE: {"epochs": 3, "max_epochs": 7}}, TRAINING),
        text(
            "settings",
            "file.max_epochs: expected the same as epochs=3, another name of nepochs, found 7; give one of them",
        ),
    ),
    "unknown names": (
        lambda: resolve({Layer.CLI: {"learnig_rate": 1.0, "C": 4}}, TRAINING),
        text(
            "settings",
            "cli.C: expected a setting, found a derived value; it is gridsize**2; set gridsize",
            "cli.learnig_rate: expected a known setting, found an unknown name; did you mean learning_rate or "
            "probe_learning_rate or aberration_learning_rate?",
        ),
    ),
    "no groups": (
        lambda: resolve_training(SCAN, output_dir=OUT),
        text("settings", f"n_groups: expected a number of groups, found none; {REQUIRED}"),
    ),
    "an argument": (
        lambda: train(output_dir="elsewhere"),
        text("settings", "explicit.output_dir: expected the same as the argument, out, found 'elsewhere'"),
    ),
    "an array for an argument": (
        lambda: train(output_dir=np.zeros(0)),
        text(
            "settings",
            "explicit.output_dir: expected the same as the argument, out, found array([], dtype=float64)",
        ),
    ),
    "what is not built": (
        lambda: train(architecture="fno"),
        text(
            "settings",
            "explicit.architecture: expected 'unrolled' or 'unet' or 'cnn' or 'ffno' or 'package:name' for the "
            "generator of an installed package (lower case, hyphens), found 'fno'; no run can honour this: not built",
        ),
    ),
    "a mask without its switch": (
        lambda: train(probe_mask_tensor=np.ones((64, 64)), probe_mask=False),
        text("settings", "explicit.probe_mask: expected true beside a probe_mask_tensor, found False; drop one"),
    ),
    "a mask of another size": (
        lambda: train(probe_mask_tensor=np.ones((4, 4))),
        text("settings", "probe_mask_tensor: expected shape (64, 64), found (4, 4)"),
    ),
    "settings that exclude each other": (
        resume_without_workers,
        text("settings", "PyTorchExecutionConfig.persistent_workers: expected false with num_workers=0, found True"),
    ),
    "other weights": (
        other_weights,
        text("settings", f"cli.n_filters_scale: expected 2, as the archive, found 4; {MODEL}"),
    ),
    "what a reconstruction does not read": (
        lambda: reconstruct(learning_rate=1.0, logger_backend="mlflow"),
        text(
            "settings",
            "explicit.learning_rate: expected 0.0002, the default, found 1.0; "
            "learning_rate belongs to a training, a reconstruction does not read it: leave it out",
            "explicit.logger_backend: expected 'csv', the default, found 'mlflow'; "
            "logger_backend belongs to a training, a reconstruction does not read it: leave it out",
        ),
    ),
    "what a training does not read": (
        lambda: train(probe_source="model"),
        text(
            "settings",
            "explicit.probe_source: expected 'auto', the default, found 'model'; "
            "probe_source belongs to a reconstruction, a training does not read it: leave it out",
        ),
    ),
    "the name of a training's setting": (
        lambda: reconstruct(nepochs=50),
        text(
            "settings",
            "explicit.nepochs: expected a setting of a reconstruction, found one of a training; leave it out",
        ),
    ),
    "groups that are no number": (
        lambda: records_of_a_training(n_groups=0, train_data_file=3),
        text(
            "TrainingConfig",
            "overrides.n_groups: expected a positive number, found 0",
            "overrides.train_data_file: expected a path or none, found 3",
        ),
    ),
    "a file that is none": (
        lambda: records_of_a_training(n_groups=8, train_data_file=None),
        text("TrainingConfig", f"train_data_file: expected a value, found none; {A_FILE}"),
    ),
    "no scan": (
        lambda: records_of_a_training(n_groups=8),
        text("TrainingConfig", f"train_data_file: expected a value, found none; {A_FILE}"),
    ),
    "torch-side records that disagree": (
        lambda: records_of_a_training(loss="MAE", n_groups=8, train_data_file="a"),
        text("TrainingConfig", "TorchTrainingConfig.torch_loss_mode: expected 'mae', as elsewhere, found 'poisson'"),
    ),
    "overrides of the bridge": (
        lambda: to_model_config(DataConfig(), TorchModelConfig(), {"gridsize": 0}),
        text("ModelConfig", "overrides.gridsize: expected a positive number, found 0"),
    ),
    "a mixed training": (
        mixed_payload,
        text("training payload", "TorchTrainingConfig.nepochs: expected 50, as elsewhere, found 3"),
    ),
    "a mixed reconstruction": (
        mixed_reconstruction,
        text("inference payload", "TorchInferenceConfig.n_groups: expected 8, as elsewhere, found 3"),
    ),
}


@pytest.mark.parametrize(("call", "message"), MESSAGES.values(), ids=MESSAGES)
def test_an_error_says_where_what_and_how_to_mend_it(call: Callable[[], object], message: str) -> None:
    """The whole message is as written here: subject, path, what was expected, what was found, the fix."""
    with pytest.raises(ConfigError) as error:
        call()

    assert str(error.value) == message


@pytest.mark.parametrize("value", [10**5000, [10**5000], {"a": -(10**5000)}], ids=["int", "list", "dict"])
def test_numbers_too_long_to_write_have_a_message_too(value: object) -> None:
    """Python writes out no integer of thousands of digits; the error about one still comes as an error about one."""
    with pytest.raises(ConfigError, match=r"n_groups: expected an integer, found \w+ with too many digits to show"):
        train(n_groups=value)
    assert shown(value).endswith("too many digits to show")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400], ids=["large", "negative", "huge"])
def test_integers_have_64_bits(value: int) -> None:
    """What no file format and no array could hold is refused."""
    with pytest.raises(ConfigError, match="seed"):
        train(seed=value)
    with pytest.raises(ConfigError, match="fno_modes"):
        train(fno_modes=value)
