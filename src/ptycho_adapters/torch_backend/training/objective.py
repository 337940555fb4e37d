"""What a training minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.optics import (
    BACKGROUND_COUNTS,
    amplitude_mae,
    expected_counts,
    poisson_deviance,
)
from ptycho_core.config.main_term import MainTerm
from ptycho_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from ptycho_core.config import TorchTrainingConfig


@attrs.frozen(kw_only=True, eq=False)
class Prediction:
    """One step's patches and what they are compared with.

    Attributes:
        single: (B, C, N, N) complex64 patches as the generator made them one by one; None if it makes one object.
        merged: (B, C, N, N) complex64 patches of the one object on the canvas.
        probes: (B, C, modes, N, N) complex64.
        counts: (B, C, N, N) float32 measured, detector order.
        good_pixels: (N, N) float32 or None.
        scale: scalar factor on the expected counts.
        labels: (B, C, N, N) complex64 known patches, for supervised training.
        drafts: patches of the object after each step of the generator but the last, where the objective weighs them.
        background: counts per pixel that do not come from the beam.
    """

    single: Tensor | None
    merged: Tensor
    probes: Tensor
    counts: Tensor
    good_pixels: Tensor | None
    scale: Tensor
    labels: Tensor | None = None
    drafts: tuple[Tensor, ...] = ()
    background: float = 0.0


@attrs.frozen(kw_only=True)
class Objective:
    """Weights of the loss.

    Attributes:
        loss_mode: main term: Poisson deviance of counts, mean absolute error of amplitudes, or, for known objects,
            mean absolute error of the complex patch, weighted by the light on it.
        nll_weight: weight of the main term.
        mae_weight: weight of an added mean absolute amplitude error.
        unmerged_weight: weight of the same data terms for single patches, beside the merged ones.
        draft_weight: weight of the main term for the averaged patches of the earlier steps, summed over them.
        realspace_weight: weight of the mean squared difference between single and merged patches, light-weighted.
        realspace_mae_weight: weight of the mean absolute difference.
        match_norm: scale predictions to the measured sum of counts before amplitudes are compared.
    """

    loss_mode: MainTerm
    nll_weight: float
    mae_weight: float
    unmerged_weight: float
    draft_weight: float
    realspace_weight: float
    realspace_mae_weight: float
    match_norm: bool

    @staticmethod
    def from_config(config: TorchTrainingConfig, main: MainTerm) -> Objective:
        """Read the weights from a training configuration."""
        return Objective(
            loss_mode=main,
            nll_weight=config.nll_weight,
            mae_weight=config.mae_weight,
            unmerged_weight=config.unmerged_weight,
            draft_weight=config.draft_weight,
            realspace_weight=config.realspace_weight,
            realspace_mae_weight=config.realspace_mae_weight,
            match_norm=config.torch_mae_pred_l2_match_target,
        )

    def main_term(self, patches: Tensor, expected: Tensor, prediction: Prediction) -> Tensor:
        """Mean of the main term for patches and the counts that they imply."""
        match self.loss_mode:
            case "poisson":
                return poisson_deviance(expected, prediction.counts, prediction.good_pixels)
            case "mae":
                return self._amplitude_error(expected, prediction)
            case "supervised":
                return _label_error(patches, prediction)
            case unknown:
                assert_never(unknown)

    @part("misfit")
    def total(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Give the loss to minimise and, for logs, the main term of the merged patches."""
        expected = self._expected(prediction.merged, prediction)
        main = self.main_term(prediction.merged, expected, prediction)
        loss = self.nll_weight * main
        if self.mae_weight:
            loss = loss + self.mae_weight * self._amplitude_error(expected, prediction)
        if self.unmerged_weight and prediction.single is not None:
            alone = self._expected(prediction.single, prediction)
            loss = loss + self.unmerged_weight * self.nll_weight * self.main_term(prediction.single, alone, prediction)
        if self.draft_weight:
            for draft in prediction.drafts:
                term = self.main_term(draft, self._expected(draft, prediction), prediction)
                loss = loss + self.draft_weight * self.nll_weight * term
        if (self.realspace_weight or self.realspace_mae_weight) and prediction.single is not None:
            loss = loss + self._disagreement(prediction.single, prediction)
        return loss, main

    def _expected(self, patches: Tensor, prediction: Prediction) -> Tensor:
        return prediction.scale * expected_counts(patches, prediction.probes, 0.0) + (
            prediction.background + BACKGROUND_COUNTS
        )

    def _amplitude_error(self, expected: Tensor, prediction: Prediction) -> Tensor:
        if self.match_norm:
            good = 1.0 if prediction.good_pixels is None else prediction.good_pixels
            measured = prediction.counts.sum(dim=(-2, -1), keepdim=True)
            expected = expected * (measured / (good * expected).sum(dim=(-2, -1), keepdim=True))
        return amplitude_mae(expected, prediction.counts, prediction.good_pixels)

    def _disagreement(self, single: Tensor, prediction: Prediction) -> Tensor:
        light = _share_of_light(prediction)
        squared = (single - prediction.merged).abs().square()
        return (
            self.realspace_weight * (light * squared).sum()
            + self.realspace_mae_weight * (light * squared.clamp_min(1e-12).sqrt()).sum()
        )


def _label_error(patches: Tensor, prediction: Prediction) -> Tensor:
    if prediction.labels is None:
        raise ConfigError("loss", [Problem(path="labels", expected="known patches", found="none")])
    return (_share_of_light(prediction) * (patches - prediction.labels).abs()).sum()


@torch.no_grad()
def _share_of_light(prediction: Prediction) -> Tensor:
    """Light on each pixel (B, C, N, N), summing to 1."""
    light = prediction.probes.abs().square().sum(dim=2)
    share: Tensor = light / light.sum()
    return share
