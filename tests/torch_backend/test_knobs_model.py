"""Settings of the loss and of the probe: each one changes what a training of the tiny scan gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ptycho_adapters.torch_backend.physics.probe import soft_disc
from ptycho_adapters.torch_backend.training.starting_point import probe_mask
from ptycho_core.errors import ConfigError
from torch_sample import module_of, payload_for, quick_training

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_adapters.torch_backend import TrainedModel

MASK = np.zeros((64, 64), np.float32)
MASK[16:48, 20:44] = 1.0
# Single and merged patches differ from the second step on, so weights of their difference need two.
SETTINGS: tuple[Mapping[str, object], ...] = (
    {"torch_loss_mode": "mae"},
    {"torch_loss_mode": "mae", "torch_mae_pred_l2_match_target": True},
    {"nll_weight": 0.5, "mae_weight": 0.1},
    {"nll": False, "mae_weight": 1.0},
    {"mae_weight": 0.5},
    {"realspace_weight": 100.0},
    {"realspace_mae_weight": 100.0},
    {"unmerged_weight": 0.0},
    {"architecture": "unrolled", "unrolled_steps": 2},
    {"architecture": "unrolled", "unrolled_steps": 2, "draft_weight": 0.7},
    {"background_counts": 1.0},
    {"probe_mask": True},
    {"probe_mask": True, "probe_mask_diameter": 20.0},
    {"probe_mask": True, "probe_mask_sigma": 5.0},
    {"probe_mask_tensor": MASK},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[TrainedModel]:
    """A training with nothing changed, then one for each setting; nothing is held out, so each keeps its end."""
    folder = tmp_path_factory.mktemp("runs")
    return [quick_training(folder, {"validation_fraction": 0.0, **overrides}) for overrides in ({}, *SETTINGS)]


def test_every_setting_changes_the_training(trained: list[TrainedModel]) -> None:
    """No two of the trainings end with the same probe."""
    for first in range(len(trained)):
        for second in range(first):
            assert not np.array_equal(trained[first].probe, trained[second].probe), (first, second)


@pytest.mark.parametrize(
    ("overrides", "field", "value"),
    [
        ({"torch_loss_mode": "mae"}, "loss_mode", "mae"),
        ({"loss_function": "MAE"}, "loss_mode", "mae"),
        ({"nll_weight": 0.25}, "nll_weight", 0.25),
        ({"nll": False}, "nll_weight", 0.0),
        ({"mae_weight": 0.75}, "mae_weight", 0.75),
        ({"realspace_weight": 0.3}, "realspace_weight", 0.3),
        ({"realspace_mae_weight": 0.4}, "realspace_mae_weight", 0.4),
        ({"unmerged_weight": 0.6}, "unmerged_weight", 0.6),
        ({"architecture": "unrolled", "draft_weight": 0.8}, "draft_weight", 0.8),
        ({"torch_mae_pred_l2_match_target": True}, "match_norm", True),
    ],
    ids=str,
)
def test_the_objective_has_the_setting(
    tmp_path: Path, overrides: Mapping[str, object], field: str, value: object
) -> None:
    """The loss of the module that is trained carries it; what each does there is tested on its own."""
    objective = module_of(payload_for(tmp_path, overrides)).objective

    assert getattr(objective, field) == value


def test_no_mask_unless_asked_for(tmp_path: Path) -> None:
    """By default the probe is not masked."""
    assert probe_mask(payload_for(tmp_path)) is None


def test_the_mask_is_a_disc_of_half_the_frame(tmp_path: Path) -> None:
    """Its default diameter is N/2, its default softness 1 px."""
    mask = probe_mask(payload_for(tmp_path, {"probe_mask": True}))

    assert mask is not None
    assert torch.equal(mask, soft_disc(64, 32.0, 1.0))


def test_the_mask_has_the_diameter_and_softness_asked_for(tmp_path: Path) -> None:
    """Both come from the settings."""
    settings = {"probe_mask": True, "probe_mask_diameter": 22.0, "probe_mask_sigma": 3.0}
    mask = probe_mask(payload_for(tmp_path, settings))

    assert mask is not None
    assert torch.equal(mask, soft_disc(64, 22.0, 3.0))


def test_a_mask_given_as_an_array_is_used_as_it_is(tmp_path: Path) -> None:
    """The trained probe is zero wherever the array is."""
    model = quick_training(tmp_path, {"probe_mask_tensor": MASK})

    assert not model.probe[:, MASK == 0].any()
    assert model.probe[:, MASK == 1].any()
    assert float(np.sum(np.abs(model.probe.astype(np.complex128)) ** 2)) == pytest.approx(model.flux, rel=1e-5)


@pytest.mark.parametrize("unit", [3e38, 1e-30])
def test_a_mask_has_no_unit(tmp_path: Path, unit: float) -> None:
    """The energy of the probe is fixed, so that only what a mask does to one pixel beside another one counts."""
    mask = probe_mask(payload_for(tmp_path, {"probe_mask_tensor": MASK * unit}))

    assert mask is not None
    assert torch.equal(mask, torch.tensor(MASK))


def test_a_mask_that_stops_all_light_is_refused(tmp_path: Path) -> None:
    """A disc that falls between the pixels would leave a probe without energy."""
    settings = {"probe_mask": True, "probe_mask_diameter": 0.5, "probe_mask_sigma": 0.01}

    with pytest.raises(ConfigError, match="probe_mask: expected a mask that lets light pass"):
        quick_training(tmp_path, settings)
