"""Settings of loss, optimiser and network, each of which changes the steps of the network itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho_adapters.common.groups import training_set_for
from ptycho_adapters.tensorflow_backend.training.start import arms_of, starting_generator
from ptycho_adapters.tensorflow_backend.training.step import Learner
from tensorflow_sample import tiny_scan
from tensorflow_training import minute_payload, small_scan, with_noise

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen(eq=False)
class Stepped:
    """What is left of a few steps of the network itself."""

    weights: dict[str, NDArray[Any]]
    losses: tuple[float, ...]

    def differs(self, other: Stepped) -> bool:
        """Tell whether anything else came of them, beyond rounding."""
        if self.weights.keys() != other.weights.keys() or not np.allclose(self.losses, other.losses, rtol=1e-5):
            return True
        return any(not np.allclose(value, other.weights[name], atol=1e-6) for name, value in self.weights.items())


def few_steps(folder: Path, settings: dict[str, object]) -> Stepped:
    """Of a training on a small scan; a cnn wants patterns of 64 px, and takes one step alone."""
    cnn = settings.get("architecture") == "cnn"
    payload, scan = minute_payload(folder, settings, 64 if cnn else 16), tiny_scan() if cnn else small_scan()
    data = training_set_for(payload, scan)
    learner = Learner(with_noise(starting_generator(payload), payload), payload.pt_training_config)
    arm, groups = arms_of(payload, data).training, data.groups[0].train[:1]
    losses = tuple(learner.learn(arm, groups, 0.01) for _ in range(1 if cnn else 2))
    return Stepped(weights=learner.weights(), losses=losses)


SGD: dict[str, object] = {"optimizer": "sgd", "gradient_clip_val": None}
CNN: dict[str, object] = {"architecture": "cnn", "optimizer": "sgd", "gradient_clip_val": None}
MAE: dict[str, object] = {"torch_loss_mode": "mae"}
CLIPPED: dict[str, object] = {"optimizer": "sgd", "gradient_clip_val": 1e-3}
BY_BASE: list[tuple[dict[str, object], list[dict[str, object]]]] = [
    (
        {},
        [
            {"optimizer": "sgd"},
            {"weight_decay": 0.3},
            {"adam_beta1": 0.1},
            {"adam_beta2": 0.1},
            {"mae_weight": 0.9},
            MAE,
        ],
    ),
    ({"unrolled_repeats": 1}, [{"draft_weight": 0.9}]),
    (SGD, [{"momentum": 0.1}, {"nll_weight": 0.2}, {"gradient_clip_val": 1e-3}]),
    (CLIPPED, [{"gradient_clip_algorithm": "value"}, {"gradient_clip_algorithm": "agc"}]),
    (MAE, [{"torch_mae_pred_l2_match_target": True}]),
    (
        CNN,
        [
            {"unmerged_weight": 0.9},
            {"realspace_weight": 0.9},
            {"realspace_mae_weight": 0.9},
            {"cnn_output_mode": "real_imag"},
            {"cbam_encoder": False},
            {"amp_activation": "softplus"},
        ],
    ),
]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("base", "settings"), BY_BASE, ids=["adam", "repeated", "sgd", "clipped", "mae", "cnn"])
def test_every_setting_changes_the_steps(
    tmp_path: Path, base: dict[str, object], settings: list[dict[str, object]]
) -> None:
    """A few steps of the network itself end elsewhere with the setting than without, which is always the same place."""
    start = few_steps(tmp_path, base)

    assert not start.differs(few_steps(tmp_path, base))
    same = [changed for changed in settings if not start.differs(few_steps(tmp_path, {**base, **changed}))]
    assert not same
