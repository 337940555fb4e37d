"""The main term of a training's loss, as the settings name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ptycho_core.config.payload import TrainingPayload

MainTerm = Literal["poisson", "mae", "supervised"]


def main_term_name(payload: TrainingPayload) -> MainTerm:
    """Give the main term that a payload asks for: the likelihood, or the known object where training is supervised."""
    if payload.tf_training_config.model.model_type == "supervised":
        return "supervised"
    return payload.pt_training_config.torch_loss_mode
