"""Laws of the bridge and of the legacy projection."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_adapters.legacy import update_legacy_dict
from ptycho_core import (
    DataConfig,
    InferenceConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
    TrainingConfig,
    from_inference_config,
    from_training_config,
    legacy_dict,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_core.config.bridge import TorchInferenceRecords, TorchTrainingRecords
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.table import keys
from strategies_config import TEXT, records

if TYPE_CHECKING:
    from ptycho_core.config.record import Record

PATH = TEXT.map(str)
SQUARE = st.integers(1, 9).map(lambda side: (side, side))
TRAININGS = records(TrainingConfig, train_data_file=PATH, test_data_file=PATH)
INFERENCES = records(InferenceConfig)
NAMES = st.text(max_size=6) | st.sampled_from(["N", "n_subsample", "probe.mask", "test_data_file_path", "offset"])
PRIORS = st.dictionaries(NAMES, st.none() | st.integers() | st.text(max_size=4))


MASKS = st.none() | st.integers(1, 3).map(lambda size: [[1.0] * size] * size)
DATA = records(DataConfig, grid_size=SQUARE)


def of_mode(mode: str) -> st.SearchStrategy[TorchTrainingRecords]:
    spelled = {"poisson": "Poisson", "mae": "MAE"}[mode]
    return st.builds(
        TorchTrainingRecords,
        DATA,
        records(TorchModelConfig, loss_function=st.just(spelled), probe_mask_tensor=MASKS),
        records(
            TorchTrainingConfig,
            torch_loss_mode=st.just(mode),
            train_data_file=PATH,
            test_data_file=PATH,
            n_groups=st.integers(1, 999),
        ),
    )


# Torch-side records that a canonical one can express.
TORCH_TRAININGS = of_mode("poisson") | of_mode("mae")
TORCH_INFERENCES = st.builds(
    TorchInferenceRecords,
    DATA,
    records(TorchModelConfig, probe_mask_tensor=MASKS),
    records(TorchInferenceConfig, model_path=PATH, test_data_file=PATH),
)


def canonical_training(torch_side: TorchTrainingRecords) -> TrainingConfig:
    return to_training_config(to_model_config(torch_side.data, torch_side.model), *torch_side)


def canonical_inference(torch_side: TorchInferenceRecords) -> InferenceConfig:
    model = to_model_config(torch_side.data, torch_side.model)
    return to_inference_config(model, torch_side.data, torch_side.inference)


@given(config=TRAININGS)
def test_a_training_goes_there_and_back(config: TrainingConfig) -> None:
    """Canonical to torch-side to canonical is the identity."""
    assert canonical_training(from_training_config(config)) == config


@given(config=INFERENCES)
def test_an_inference_goes_there_and_back(config: InferenceConfig) -> None:
    """Canonical to torch-side to canonical is the identity."""
    assert canonical_inference(from_inference_config(config)) == config


@given(torch_side=TORCH_TRAININGS)
def test_a_torch_training_goes_there_and_back(torch_side: TorchTrainingRecords) -> None:
    """Torch-side to canonical to torch-side is the identity, with the rest taken from the original."""
    assert from_training_config(canonical_training(torch_side), torch_side) == torch_side


@given(torch_side=TORCH_INFERENCES)
def test_a_torch_inference_goes_there_and_back(torch_side: TorchInferenceRecords) -> None:
    """Torch-side to canonical to torch-side is the identity, with the rest taken from the original."""
    assert from_inference_config(canonical_inference(torch_side), torch_side) == torch_side


@given(config=TRAININGS, torch_side=TORCH_TRAININGS)
def test_a_training_replaces_what_was_there(config: TrainingConfig, torch_side: TorchTrainingRecords) -> None:
    """Whatever records a training is put into, they say the training afterwards."""
    assert canonical_training(from_training_config(config, torch_side)) == config


@given(config=INFERENCES, torch_side=TORCH_INFERENCES)
def test_an_inference_replaces_what_was_there(config: InferenceConfig, torch_side: TorchInferenceRecords) -> None:
    """Whatever records a reconstruction is put into, they say the reconstruction afterwards."""
    assert canonical_inference(from_inference_config(config, torch_side)) == config


@given(config=TRAININGS | INFERENCES, first=PRIORS, second=PRIORS)
def test_the_projection_depends_on_the_record_alone(
    config: TrainingConfig | InferenceConfig, first: dict[str, object], second: dict[str, object]
) -> None:
    """Two dicts agree on every parameter of the record afterwards, whatever they held before."""
    parameters = legacy_dict(config)
    others = {key: value for key, value in first.items() if key not in parameters}

    update_legacy_dict(first, config)
    update_legacy_dict(second, config)

    assert all((key in first, first.get(key)) == (key in second, second.get(key)) for key in parameters)
    assert first == {key: value for key, value in parameters.items() if value is not None} | others


@given(config=TRAININGS | INFERENCES, prior=PRIORS)
def test_the_projection_is_idempotent(config: TrainingConfig | InferenceConfig, prior: dict[str, object]) -> None:
    """Projecting twice is projecting once."""
    update_legacy_dict(prior, config)
    once = dict(prior)
    update_legacy_dict(prior, config)

    assert prior == once


@given(config=TRAININGS | INFERENCES)
def test_execution_settings_never_enter(config: TrainingConfig | InferenceConfig) -> None:
    """No key of the execution record alone is a parameter, and every value is plain."""
    own = keys(PyTorchExecutionConfig) - keys(type(config))
    parameters = legacy_dict(config)

    assert not own & parameters.keys()
    assert all(value is None or isinstance(value, bool | int | float | str) for value in parameters.values())


class Fragile(MutableMapping[str, object]):
    """A mapping whose n-th change fails once."""

    def __init__(self, held: dict[str, object], fails_at: int) -> None:
        self.held, self.left = held, fails_at

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError("injected")

    def __getitem__(self, key: str) -> object:
        return self.held[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._count()
        self.held[key] = value

    def __delitem__(self, key: str) -> None:
        self._count()
        del self.held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


class FragileDict(dict[str, object]):
    """A dict whose n-th change fails, and all after it."""

    left = 0

    def __setitem__(self, key: str, value: object) -> None:
        self.left -= 1
        if self.left <= 0:
            raise OSError("injected")
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.left -= 1
        if self.left <= 0:
            raise OSError("injected")
        super().__delitem__(key)


@given(config=TRAININGS | INFERENCES, prior=PRIORS, data=st.data())
def test_a_failure_at_any_step_changes_nothing(
    config: TrainingConfig | InferenceConfig, prior: dict[str, object], data: st.DataObject
) -> None:
    """Whichever change fails, the dict is as it was."""
    parameters = legacy_dict(config)
    step = data.draw(st.integers(1, sum(value is not None or key in prior for key, value in parameters.items())))
    fragile, fragile_dict = Fragile(dict(prior), step), FragileDict(prior)
    fragile_dict.left = step

    for target in (fragile, fragile_dict):
        with pytest.raises(OSError, match="injected"):
            update_legacy_dict(target, config)

    assert fragile.held == prior
    assert fragile_dict == prior


@given(torch_side=TORCH_TRAININGS, sides=st.lists(st.integers(1, 9), min_size=2, max_size=2, unique=True))
def test_other_grids_cannot_be_said(torch_side: TorchTrainingRecords, sides: list[int]) -> None:
    """Every grid with two sizes is refused, whatever else the records hold."""
    data = DataConfig(grid_size=(sides[0], sides[1]))

    with pytest.raises(ValueError, match="Non-square grids"):
        to_model_config(data, torch_side.model)


@given(torch_side=TORCH_TRAININGS)
def test_translation_leaves_its_arguments_alone(torch_side: TorchTrainingRecords) -> None:
    """Records are the same before and after, and no warning is issued for complete ones."""
    before: tuple[Record, ...] = copy.deepcopy(tuple(torch_side))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canonical_training(torch_side)

    assert tuple(torch_side) == before
