"""Sections that settings stand in, for people: in the help, in configuration files and in reports."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ptycho_core.config.canonical import TrainingConfig
from ptycho_core.config.execution import PyTorchExecutionConfig
from ptycho_core.config.knob import Effect
from ptycho_core.config.shared import Draw, Frame, Sampling
from ptycho_core.config.table import keys
from ptycho_core.config.torch_side import DataConfig, TorchInferenceConfig, TorchModelConfig, TorchTrainingConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptycho_core.config.table import FieldInfo

FILES, DATA, MODEL, TRAINING, EXECUTION, RECONSTRUCTION, RECORDED = (
    "files",
    "data",
    "model",
    "training",
    "execution",
    "reconstruction",
    "recorded",
)
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        FILES: "files",
        DATA: "data and sampling",
        MODEL: "model",
        TRAINING: "training",
        EXECUTION: "execution",
        RECONSTRUCTION: "reconstruction",
        RECORDED: "recorded with the model, without effect on a run",
    }
)
"""Their titles by name, in the order in which they are shown."""

_OF_FILES = frozenset(
    {"train_data_file", "training_directories", "test_data_file", "output_dir", "model_path", "resume"}
)
_OF_DATA = frozenset({"n_groups", "sequential_sampling", "validation_fraction"})
_OF_EXECUTION = frozenset({"seed"})
_OF_TRAINING = frozenset({"learning_rate", "accum_steps"})
_BY_RECORD: tuple[tuple[str, frozenset[str]], ...] = (
    (DATA, keys(DataConfig, Sampling, Draw, Frame)),
    (MODEL, keys(TorchModelConfig)),
    (TRAINING, keys(TrainingConfig)),
    (EXECUTION, keys(PyTorchExecutionConfig)),
    (TRAINING, keys(TorchTrainingConfig)),
    (RECONSTRUCTION, keys(TorchInferenceConfig)),
)


def section_of(info: FieldInfo) -> str:
    """Return the section that a setting stands in."""
    if info.key in _OF_FILES:
        return FILES
    if info.effect in {Effect.LEGACY, Effect.RECORD}:
        return RECORDED
    if info.key in _OF_DATA:
        return DATA
    if info.key in _OF_TRAINING:
        return TRAINING
    if info.key in _OF_EXECUTION:
        return EXECUTION
    return next(section for section, held in _BY_RECORD if info.key in held)
