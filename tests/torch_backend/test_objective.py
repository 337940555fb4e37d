"""Each weight of the loss against its closed form."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.physics.optics import BACKGROUND_COUNTS
from ptycho_adapters.torch_backend.training.objective import Objective, Prediction
from ptycho_core.errors import ConfigError
from ptycho_core.physics import optics as reference

PLAIN = Objective(
    loss_mode="poisson",
    nll_weight=1.0,
    mae_weight=0.0,
    unmerged_weight=0.0,
    draft_weight=0.0,
    realspace_weight=0.0,
    realspace_mae_weight=0.0,
    match_norm=False,
)
SCALE, BACKGROUND = 1.7, 0.3


def _noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64)


def _prediction(*, bad: bool = False) -> Prediction:
    good = torch.ones(8, 8)
    good[2:4, 5] = 0.0
    counts = torch.poisson(torch.full((3, 2, 8, 8), 4.0), generator=torch.Generator().manual_seed(9))
    return Prediction(
        single=_noise(3, 2, 8, 8, seed=1),
        merged=_noise(3, 2, 8, 8, seed=2),
        probes=2 * _noise(3, 2, 2, 8, 8, seed=3),
        counts=counts * good if bad else counts,
        good_pixels=good if bad else None,
        scale=torch.tensor(SCALE),
        background=BACKGROUND,
    )


def _loss(objective: Objective, prediction: Prediction) -> float:
    return float(objective.total(prediction)[0])


def _rate(patches: Tensor, prediction: Prediction) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Expected counts by the reference, in detector order."""
    rates = [
        [reference.expected_counts(patch, probe) for patch, probe in zip(group, probes, strict=True)]
        for group, probes in zip(patches.numpy(), prediction.probes.numpy(), strict=True)
    ]
    return SCALE * np.fft.ifftshift(np.array(rates), axes=(-2, -1)) + BACKGROUND + BACKGROUND_COUNTS


def _bad(prediction: Prediction) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
    return None if prediction.good_pixels is None else prediction.good_pixels.numpy() == 0


def test_drafts_add_their_own_deviance() -> None:
    """Each earlier step's averaged patches are weighed like the final ones, times the weight."""
    drafts = (_noise(3, 2, 8, 8, seed=5), _noise(3, 2, 8, 8, seed=6))
    prediction = attrs.evolve(_prediction(), drafts=drafts)

    added = _loss(attrs.evolve(PLAIN, draft_weight=0.3), prediction) - _loss(PLAIN, prediction)

    counts = prediction.counts.numpy()
    wanted = sum(reference.poisson_deviance(_rate(draft, prediction), counts) for draft in drafts)
    assert added == pytest.approx(0.3 * wanted, rel=1e-4)


@pytest.mark.parametrize("bad", [False, True])
def test_the_main_term_is_the_deviance_of_merged_patches(bad: bool) -> None:
    """With weight 1 alone, the loss is the reference deviance of scaled rates plus background."""
    prediction = _prediction(bad=bad)

    loss, main = PLAIN.total(prediction)

    rate = _rate(prediction.merged, prediction)
    wanted = reference.poisson_deviance(rate, prediction.counts.numpy(), bad_pixels=_bad(prediction))
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    assert float(main) == float(loss)


@pytest.mark.parametrize("bad", [False, True])
def test_the_other_mode_is_the_amplitude_error(bad: bool) -> None:
    """'mae' compares square roots."""
    prediction = _prediction(bad=bad)

    loss = _loss(attrs.evolve(PLAIN, loss_mode="mae"), prediction)

    rate = _rate(prediction.merged, prediction)
    wanted = reference.amplitude_mae(rate, prediction.counts.numpy(), bad_pixels=_bad(prediction))
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_known_patches_are_compared_by_light() -> None:
    """Supervised, the loss is the light-weighted mean distance of patches and labels."""
    labels = _noise(3, 2, 8, 8, seed=5)
    prediction = attrs.evolve(_prediction(), labels=labels)

    loss = _loss(attrs.evolve(PLAIN, loss_mode="supervised"), prediction)

    light = prediction.probes.abs().square().sum(dim=2).numpy().astype(np.float64)
    assert loss == pytest.approx(np.average((prediction.merged - labels).abs().numpy(), weights=light), rel=1e-5)


def test_without_known_patches_there_is_nothing_to_compare() -> None:
    """A supervised loss without labels is an error, not zero."""
    with pytest.raises(ConfigError, match="labels: expected known patches, found none"):
        _loss(attrs.evolve(PLAIN, loss_mode="supervised"), attrs.evolve(_prediction(), labels=None))


def test_the_likelihood_weight_multiplies_the_main_term() -> None:
    """Half the weight is half the loss, and the logged main term stays."""
    prediction = _prediction()

    loss, main = attrs.evolve(PLAIN, nll_weight=0.5).total(prediction)

    assert float(loss) == pytest.approx(0.5 * _loss(PLAIN, prediction))
    assert float(main) == pytest.approx(_loss(PLAIN, prediction))


def test_the_amplitude_error_is_added_by_weight() -> None:
    """The loss grows by the weight times the error."""
    prediction = _prediction()

    added = _loss(attrs.evolve(PLAIN, mae_weight=0.25), prediction) - _loss(PLAIN, prediction)

    error = reference.amplitude_mae(_rate(prediction.merged, prediction), prediction.counts.numpy())
    assert added == pytest.approx(0.25 * error, rel=1e-4)


def test_single_patches_are_judged_by_weight() -> None:
    """The loss grows by the weight times the deviance of unmerged patches."""
    prediction = _prediction()

    added = _loss(attrs.evolve(PLAIN, unmerged_weight=0.4), prediction) - _loss(PLAIN, prediction)

    assert prediction.single is not None
    alone = reference.poisson_deviance(_rate(prediction.single, prediction), prediction.counts.numpy())
    assert added == pytest.approx(0.4 * alone, rel=1e-4)


def test_disagreement_is_weighted_by_light() -> None:
    """Squared and absolute differences of single and merged patches are light-weighted means."""
    prediction = _prediction()
    base = _loss(PLAIN, prediction)

    squared = _loss(attrs.evolve(PLAIN, realspace_weight=3.0), prediction) - base
    absolute = _loss(attrs.evolve(PLAIN, realspace_mae_weight=5.0), prediction) - base

    light = (prediction.probes.abs().square()).sum(dim=2).numpy().astype(np.float64)
    assert prediction.single is not None
    gap = (prediction.single - prediction.merged).abs().numpy()
    assert squared == pytest.approx(3.0 * np.average(gap**2, weights=light), rel=1e-4)
    assert absolute == pytest.approx(5.0 * np.average(gap, weights=light), rel=1e-4)


def test_agreeing_patches_cost_nothing_more() -> None:
    """Where single and merged patches are the same, the real-space weights do not matter."""
    prediction = _prediction()
    assert prediction.single is not None
    prediction = attrs.evolve(prediction, merged=prediction.single)
    weighted = attrs.evolve(PLAIN, realspace_weight=3.0, realspace_mae_weight=3.0)

    assert _loss(weighted, prediction) == pytest.approx(_loss(PLAIN, prediction), abs=1e-4)


@pytest.mark.parametrize("bad", [False, True])
def test_matched_norms_ignore_the_scale_of_the_prediction(bad: bool) -> None:
    """Each frame's rates are scaled to its measured sum over good pixels before amplitudes are compared."""
    prediction = _prediction(bad=bad)
    matched = attrs.evolve(PLAIN, loss_mode="mae", match_norm=True)
    good = np.ones((8, 8)) if prediction.good_pixels is None else prediction.good_pixels.numpy()

    rate, counts = _rate(prediction.merged, prediction), prediction.counts.numpy()
    rate *= counts.sum(axis=(-2, -1), keepdims=True) / (good * rate).sum(axis=(-2, -1), keepdims=True)

    wanted = reference.amplitude_mae(rate, counts, bad_pixels=_bad(prediction))
    assert _loss(matched, prediction) == pytest.approx(wanted, rel=1e-5)


def test_the_background_is_the_floor_of_the_rate() -> None:
    """Without light, the expected counts are the background and the deviance is known."""
    dark = torch.zeros(3, 2, 8, 8, dtype=torch.complex64)
    prediction = attrs.evolve(_prediction(), merged=dark, background=2.0)

    loss = _loss(PLAIN, prediction)

    counts, rate = prediction.counts.numpy(), 2.0 + BACKGROUND_COUNTS
    assert loss == pytest.approx(reference.poisson_deviance(np.full(counts.shape, rate), counts), rel=1e-5)


def test_a_generator_of_one_object_has_no_single_patches_to_judge() -> None:
    """Without single patches, the weights of their terms change nothing."""
    prediction = attrs.evolve(_prediction(), single=None)
    weighted = attrs.evolve(PLAIN, unmerged_weight=0.4, realspace_weight=0.3)

    assert _loss(weighted, prediction) == _loss(PLAIN, prediction)
