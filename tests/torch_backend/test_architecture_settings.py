"""Settings that belong to one architecture are refused under another, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.table import TRAINING, FieldInfo
from ptycho_core.errors import ConfigError

OTHERS = {"unrolled": "unet", "unet": "unrolled", "cnn": "unrolled", "ffno": "unrolled"}
PARTS = [info for info in TRAINING if info.knob.part_of and TRAINING.reads(info)]


def _resolved(**settings: object) -> TrainingPayload:
    facts = ScanFacts(path=Path("scan.npz"), N=64)
    return resolve_training(facts, {"n_groups": 4, **settings}, output_dir=Path("out"))


def _other_value(info: FieldInfo) -> object:
    if isinstance(info.default, bool):
        return not info.default
    if isinstance(info.default, int | float):
        return info.default + 1
    return {"amp_phase": "real_imag"}[str(info.default)]


@pytest.mark.parametrize("info", PARTS, ids=lambda info: info.key)
def test_it_is_taken_at_home_and_refused_elsewhere(info: FieldInfo) -> None:
    """Another value than the default is honoured under its own architecture and an error under the others."""
    home, value = info.knob.part_of[0], _other_value(info)

    _resolved(architecture=home, **{info.key: value})

    with pytest.raises(ConfigError, match=rf"{info.key}: .*no run can honour this"):
        _resolved(architecture=OTHERS[home], **{info.key: value})


def test_there_are_such_settings() -> None:
    """The structure of each network, and what only patches or only steps have."""
    assert {"unrolled_steps", "fno_modes", "cbam_encoder", "unmerged_weight", "draft_weight"} <= {i.key for i in PARTS}
