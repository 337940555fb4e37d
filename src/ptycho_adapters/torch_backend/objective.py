"""What a training minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.optics import amplitude_mae, expected_counts, poisson_deviance

if TYPE_CHECKING:
    from ptycho_core.config import TorchTrainingConfig


@attrs.frozen(kw_only=True, eq=False)
class Prediction:
    """One step's patches and what they are compared with.

    Attributes:
        single: (B, C, N, N) complex64 patches as the generator made them.
        merged: (B, C, N, N) complex64 the same after overlapping ones were averaged.
        probes: (B, C, modes, N, N) complex64.
        counts: (B, C, N, N) float32 measured, detector order.
        good_pixels: (N, N) float32 or None.
        scale: scalar factor on the expected counts.
    """

    single: Tensor
    merged: Tensor
    probes: Tensor
    counts: Tensor
    good_pixels: Tensor | None
    scale: Tensor


@attrs.frozen(kw_only=True)
class Objective:
    """Weights of the loss.

    Attributes:
        loss_mode: main term: Poisson deviance of counts, or mean absolute error of amplitudes.
        nll_weight: weight of the main term.
        mae_weight: weight of an added mean absolute amplitude error.
        unmerged_weight: weight of the same data terms for single patches, beside the merged ones.
        realspace_weight: weight of the mean squared difference between single and merged patches, light-weighted.
        realspace_mae_weight: weight of the mean absolute difference.
        background_counts: added to every expected count; keeps the logarithm finite.
        match_norm: scale predictions to the measured sum of counts before amplitudes are compared.
    """

    loss_mode: Literal["poisson", "mae"]
    nll_weight: float
    mae_weight: float
    unmerged_weight: float
    realspace_weight: float
    realspace_mae_weight: float
    background_counts: float
    match_norm: bool

    @staticmethod
    def from_config(config: TorchTrainingConfig) -> Objective:
        """Read the weights from a training configuration."""
        return Objective(
            loss_mode=config.torch_loss_mode,
            nll_weight=config.nll_weight,
            mae_weight=config.mae_weight,
            unmerged_weight=config.unmerged_weight,
            realspace_weight=config.realspace_weight,
            realspace_mae_weight=config.realspace_mae_weight,
            background_counts=config.background_counts,
            match_norm=config.torch_mae_pred_l2_match_target,
        )

    def main_term(self, expected: Tensor, prediction: Prediction) -> Tensor:
        """Mean per pixel of the main data term."""
        if self.loss_mode == "poisson":
            return poisson_deviance(expected, prediction.counts, prediction.good_pixels)
        return self._amplitude_error(expected, prediction)

    def total(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Give the loss to minimise and, for logs, the main term of the merged patches."""
        expected = self._expected(prediction.merged, prediction)
        main = self.main_term(expected, prediction)
        loss = self.nll_weight * main
        if self.mae_weight:
            loss = loss + self.mae_weight * self._amplitude_error(expected, prediction)
        if self.unmerged_weight:
            alone = self._expected(prediction.single, prediction)
            loss = loss + self.unmerged_weight * self.nll_weight * self.main_term(alone, prediction)
        if self.realspace_weight or self.realspace_mae_weight:
            loss = loss + self._disagreement(prediction)
        return loss, main

    def _expected(self, patches: Tensor, prediction: Prediction) -> Tensor:
        return prediction.scale * expected_counts(patches, prediction.probes, 0.0) + self.background_counts

    def _amplitude_error(self, expected: Tensor, prediction: Prediction) -> Tensor:
        if self.match_norm:
            good = 1.0 if prediction.good_pixels is None else prediction.good_pixels
            measured = prediction.counts.sum(dim=(-2, -1), keepdim=True)
            expected = expected * (measured / (good * expected).sum(dim=(-2, -1), keepdim=True))
        return amplitude_mae(expected, prediction.counts, prediction.good_pixels)

    def _disagreement(self, prediction: Prediction) -> Tensor:
        with torch.no_grad():
            light = prediction.probes.abs().square().sum(dim=2)
            light = light / light.sum()
        squared = (prediction.single - prediction.merged).abs().square()
        return (
            self.realspace_weight * (light * squared).sum()
            + self.realspace_mae_weight * (light * squared.clamp_min(1e-12).sqrt()).sum()
        )
