"""The client's settings: every keyword it sends is known, and no change of one is lost silently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from client_sample import client_source, config_calls, defaults_of, keywords_sent, scan_of_64_px
from ptycho_adapters.ptychodus import tensorflow_configs, torch_configs
from ptycho_adapters.ptychodus.backend import Backend
from ptycho_adapters.ptychodus.settings import WITHOUT_EFFECT, tensorflow_settings, torch_settings
from ptycho_adapters.ptychodus.torch_configs import DataConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_adapters.ptychodus.work import training_payload
from ptycho_core.config import TorchTrainingConfig
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from ptycho_core.config.payload import TrainingPayload

LIBRARIES = [("ptychopinn", tensorflow_configs), ("ptychopinn_torch", torch_configs)]


@pytest.mark.parametrize(("library", "configs"), LIBRARIES)
def test_every_keyword_of_the_client_is_known(library: str, configs: ModuleType) -> None:
    """Each configuration takes exactly the keywords with which the released client makes it."""
    sent = keywords_sent(client_source("model", library, "reconstructor.py"))

    assert sum(map(len, sent.values())) > 20
    for name, keywords in sent.items():
        assert {field.name for field in attrs.fields(getattr(configs, name))} == keywords, name


@pytest.mark.parametrize(("library", "configs"), LIBRARIES)
def test_the_defaults_are_the_clients(library: str, configs: ModuleType) -> None:
    """A setting that nobody changed equals the default of the client's own window."""
    calls = config_calls(client_source("model", library, "reconstructor.py"))
    defaults = defaults_of(client_source("model", library, "settings.py"))
    compared = 0
    for (name, keyword), setting in calls.items():
        attribute = setting.partition(".")[2]
        if attribute in {"batch_size", "auxiliary_amplitude_loss"} or attribute not in defaults:
            continue
        assert getattr(attrs.fields_dict(getattr(configs, name))[keyword], "default") == defaults[attribute], keyword  # noqa: B009
        compared += 1
    assert compared > 10


def _payload(settings: dict[str, object]) -> TrainingPayload:
    return training_payload(Path("train_data.npz"), scan_of_64_px(), settings, Backend.PYTORCH)


def test_the_clients_defaults_make_a_training() -> None:
    """With nothing changed in PtychoPINN's windows, epochs, batch, grid and probe are as they stand there."""
    config = tensorflow_configs.TrainingConfig(model=tensorflow_configs.ModelConfig(N=64))

    payload = _payload(tensorflow_settings(config))

    own = payload.tf_training_config
    assert (own.nepochs, own.batch_size, own.model.gridsize, own.probe_trainable) == (50, 16, 1, False)
    assert payload.pt_training_config.position_refinement == "none"


def test_the_torch_defaults_make_a_training() -> None:
    """With nothing changed in PtychoPINN-Torch's windows but the model's size, likewise."""
    payload = _payload(torch_settings(DataConfig(N=64), ModelConfig(), TrainingConfig(), InferenceConfig()))

    own = payload.pt_training_config
    assert (own.epochs, own.batch_size) == (50, 16)
    assert payload.pt_data_config.grid_size == (2, 2)
    assert payload.execution_config.accelerator == "auto"
    assert payload.execution_config.strategy == "auto"


def test_learning_keeps_its_own_pace_unless_somebody_changed_it() -> None:
    """The client's default rate is meant for random weights; another one, or another course, is taken as it stands."""
    own = TorchTrainingConfig()
    changes: list[dict[str, Any]] = [{}, {"learning_rate": 5e-4, "scheduler": "Exponential"}, {"scheduler": "Cosine"}]
    pace = []
    for change in changes:
        data, model, _, inference = _unchanged()
        made = _payload(torch_settings(data, model, TrainingConfig(**change), inference)).pt_training_config
        pace.append((made.learning_rate, made.scheduler))

    assert pace == [(own.learning_rate, own.scheduler), (5e-4, "Exponential"), (own.learning_rate, "WarmupCosine")]


def test_the_share_held_out_can_be_set() -> None:
    """At the client's default it follows the size of the scan."""
    data, model, _, inference = _unchanged()

    settings = torch_settings(data, model, TrainingConfig(finetune_val_split=0.25), inference)

    assert _payload(settings).pt_training_config.validation_fraction == 0.25


def test_each_epoch_sees_each_pattern_about_once() -> None:
    """Groups of four are a quarter of the patterns."""
    assert _payload({"gridsize": 2}).pt_training_config.n_groups == -(-scan_of_64_px().n_patterns // 4)


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (DataConfig(N=64), {"x_bounds": (0.2, 0.8)}),
        (DataConfig(N=64), {"probe_ramp_removal": True}),
        (ModelConfig(), {"batch_norm": True}),
        (ModelConfig(), {"probe_reference_coeff": 0.5}),
        (ModelConfig(), {"phase_loss": "Total_Variation"}),
        (TrainingConfig(), {"enable_staged_finetuning": True}),
        (TrainingConfig(), {"epochs_fine_tune": 3}),
        (InferenceConfig(), {"window": 40}),
    ],
)
def test_a_change_that_no_run_honours_is_refused_by_name(record: Any, change: dict[str, object]) -> None:
    """The error names record and keyword, and says why."""
    changed = [attrs.evolve(each, **change) if type(each) is type(record) else each for each in _unchanged()]

    with pytest.raises(ConfigError, match=f"{type(record).__name__}.{next(iter(change))}.*no run here can honour"):
        torch_settings(*changed)


def _unchanged() -> list[Any]:
    return [DataConfig(N=64), ModelConfig(), TrainingConfig(), InferenceConfig()]


def test_what_a_run_does_anyway_may_be_asked_for() -> None:
    """The whole of the scan is always used, so bounds that ask for it are no problem."""
    torch_settings(DataConfig(x_bounds=(0.0, 1.0)), ModelConfig(), TrainingConfig(), InferenceConfig())


def test_channels_that_do_not_fit_the_grid_are_refused() -> None:
    """Each of the three that disagree is named, with the way to mend it."""
    with pytest.raises(ConfigError, match=r"(?s)DataConfig\.C.*C_model.*C_forward.*grid_size_y times"):
        torch_settings(DataConfig(grid_size=(1, 1)), ModelConfig(), TrainingConfig(), InferenceConfig())


def test_every_keyword_is_taken_refused_or_documented() -> None:
    """No keyword can be changed without consequence unless it is listed as without effect, with a reason."""
    plain = torch_settings(*_unchanged())
    silent = set()
    for place, record in enumerate(_unchanged()):
        for field in attrs.fields(type(record)):
            changed = _unchanged()
            changed[place] = attrs.evolve(record, **{field.name: _other(field.default)})
            try:
                said = torch_settings(*changed)
            except ConfigError:
                continue
            if said == plain:
                silent.add(f"{type(record).__name__}.{field.name}")
    done_anyway = {"DataConfig.probe_normalize", "DataConfig.phase_subtraction", "InferenceConfig.pad_eval"}
    assert {name for name in silent if name.partition(".")[2] not in WITHOUT_EFFECT} == done_anyway


def _other(default: object) -> object:
    if isinstance(default, bool) or default is None:
        return not default
    if isinstance(default, int | float):
        return default + 1
    if isinstance(default, tuple):
        return tuple(each + 1 for each in default)
    return f"{default}_"
