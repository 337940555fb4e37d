"""What a training minimises: the torch backend's loss, but for known objects."""

from __future__ import annotations

import attrs
import tensorflow as tf

from ptycho_adapters.tensorflow_backend.physics.optics import (
    BACKGROUND_COUNTS,
    amplitude_mae,
    expected_counts,
    intensity,
    light_of,
    poisson_deviance,
)
from ptycho_core.config import TorchTrainingConfig

_NO_DIFFERENCE = 1e-12


@attrs.frozen(kw_only=True, eq=False)
class Prediction:
    """One step's patches and what they are compared with.

    Attributes:
        single: (B, C, N, N) complex patches as the generator made them one by one; None if it makes one object.
        merged: (B, C, N, N) complex patches of the one object on the canvas.
        drafts: patches of the object after each step of the generator but the last, where the objective weighs them.
        probes: (B, C, modes, N, N) complex.
        counts: (B, C, N, N) real, measured, detector order.
        good_pixels: (N, N) real or None.
        background: counts per pixel that do not come from the beam.
    """

    single: tf.Tensor | None
    merged: tf.Tensor
    drafts: tuple[tf.Tensor, ...]
    probes: tf.Tensor
    counts: tf.Tensor
    good_pixels: tf.Tensor | None
    background: float


@attrs.frozen
class Objective:
    """The loss.

    Attributes:
        config: holds its weights.
    """

    config: TorchTrainingConfig

    def total(self, prediction: Prediction) -> tuple[tf.Tensor, tf.Tensor]:
        """Give the loss to minimise and, for logs, the main term of the merged patches."""
        config = self.config
        expected = _expected(prediction.merged, prediction)
        main = self._main_term(expected, prediction)
        loss = config.nll_weight * main
        if config.mae_weight:
            loss += config.mae_weight * self._amplitude_error(expected, prediction)
        if config.unmerged_weight and prediction.single is not None:
            alone = self._main_term(_expected(prediction.single, prediction), prediction)
            loss += config.unmerged_weight * config.nll_weight * alone
        for draft in prediction.drafts if config.draft_weight else ():
            term = self._main_term(_expected(draft, prediction), prediction)
            loss += config.draft_weight * config.nll_weight * term
        if (config.realspace_weight or config.realspace_mae_weight) and prediction.single is not None:
            loss += self._disagreement(prediction.single, prediction)
        return loss, main

    def _main_term(self, expected: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        if self.config.torch_loss_mode == "mae":
            return self._amplitude_error(expected, prediction)
        return poisson_deviance(expected, prediction.counts, prediction.good_pixels)

    def _amplitude_error(self, expected: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        if self.config.torch_mae_pred_l2_match_target:
            good = 1.0 if prediction.good_pixels is None else prediction.good_pixels
            measured = tf.reduce_sum(prediction.counts, axis=(-2, -1), keepdims=True)
            expected = expected * (measured / tf.reduce_sum(good * expected, axis=(-2, -1), keepdims=True))
        return amplitude_mae(expected, prediction.counts, prediction.good_pixels)

    def _disagreement(self, single: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        light = light_of(prediction.probes)
        share = light / tf.reduce_sum(light)
        squared = intensity(single - prediction.merged)
        absolute = tf.sqrt(tf.maximum(squared, _NO_DIFFERENCE))
        return self.config.realspace_weight * tf.reduce_sum(share * squared) + (
            self.config.realspace_mae_weight * tf.reduce_sum(share * absolute)
        )


def _expected(patches: tf.Tensor, prediction: Prediction) -> tf.Tensor:
    return expected_counts(patches, prediction.probes, prediction.background + BACKGROUND_COUNTS)
