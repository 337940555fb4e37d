"""What makes a training the same training, so that a run that goes on by itself goes on with what it began."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

from ptycho_core.config.bridge import settings_of
from ptycho_core.config.knob import Effect
from ptycho_core.config.table import TRAINING, keys
from ptycho_core.config.torch_side import DataConfig, TorchModelConfig, TorchTrainingConfig
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_core.config.payload import TrainingPayload

_MOST_SHOWN = 60
# How long, where, on what and how closely watched: a run may go on under others. Files are known by what is in them.
_FREE: Final = frozenset(
    {"nepochs", "output_dir", "train_data_file", "test_data_file", "training_directories", "log_grad_norm"}
    | {"grad_norm_log_freq", "accelerator", "devices", "strategy", "num_workers"}
)
_DATA = "the scans"


def identity_of(payload: TrainingPayload, data: TrainingSet) -> dict[str, str]:
    """Describe a training by what its result depends on: settings by name, and the scans with their groups.

    Args:
        payload: resolved settings.
        data: scans and groups. Of the patterns themselves the first and the last one of each scan are looked at.
    """
    held = keys(DataConfig, TorchModelConfig, TorchTrainingConfig) - _FREE
    known = settings_of(*payload.records)
    read = (info.key for info in TRAINING if info.key in held and info.effect is Effect.RUN and TRAINING.reads(info))
    return {key: _short(repr(known[key])) for key in read} | {_DATA: f"{_checksum(data):08x}"}


def check_identity(path: Path, held: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse to go on by itself with a training that was another one.

    Args:
        path: the checkpoint.
        held: what it is of.
        wanted: what the run is; settings that either does not know are not compared.

    Raises:
        ConfigError: each difference.
    """
    fix = "give it again, another --output-dir, or --resume FILE to go on from there all the same"
    raise_if_any(
        ConfigError,
        "training: --resume auto goes on with the same training alone",
        [
            Problem(path=key, expected=f"{held[key]}, as in {path}", found=wanted[key], fix=fix)
            for key in sorted(held.keys() & wanted.keys())
            if held[key] != wanted[key]
        ],
    )


def _short(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({zlib.crc32(text.encode()):08x})"


def _checksum(data: TrainingSet) -> int:
    value = 0
    scans = data.scans if data.validation is None else (*data.scans, data.validation)
    for scan in scans:
        ends = [np.ascontiguousarray(scan.patterns[number]) for number in (0, scan.n_patterns - 1)]
        for array in (scan.positions_px, scan.probe, *ends):
            value = zlib.crc32(np.ascontiguousarray(array).tobytes(), value)
    for groups in data.groups:
        for indices in (groups.train, groups.validation):
            value = zlib.crc32(np.ascontiguousarray(indices).tobytes(), value)
    return value
