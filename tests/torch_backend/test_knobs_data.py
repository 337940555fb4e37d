"""Settings of the group draw, the batches and the split: each one changes what a training sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.common.groups import TrainingGroups, training_groups, training_set
from ptycho_adapters.torch_backend import train
from ptycho_adapters.torch_backend.data.groups import EpochBatches, GroupBatch, group_loader
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.training.trainer import build_module
from ptycho_core.errors import ConfigError, ScanError
from ptycho_core.measurement.splitting import split_region
from ptycho_core.physics.subpixel import split_positions
from torch_sample import observed_training, payload_for, quick_training, same, tiny_scan, weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch.utils.data import DataLoader


def _groups(folder: Path, **overrides: object) -> TrainingGroups:
    return training_groups(payload_for(folder, overrides), tiny_scan())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"n_groups": 258}, "n_groups: expected at most 36, found 258"),
        ({"n_subsample": 37}, "n_subsample: expected at most 36 patterns, found 37$"),
        (
            {"gridsize": 5, "neighbor_count": 30, "validation_fraction": 0.5},
            "gridsize: .* found 18 scan points, for the 18 of 36 patterns that are not held out",
        ),
        (
            {"n_groups": 146_000, "neighbor_count": 30, "enable_oversampling": True, "validation_fraction": 0.25},
            "found 109500, for the 27 of 36 patterns that are not held out",
        ),
    ],
    ids=str,
)
def test_a_refusal_counts_as_the_number_was_given(
    tmp_path: Path, overrides: Mapping[str, object], message: str
) -> None:
    """Numbers of groups and patterns are meant for the whole scan, and so are the words about too many of them."""
    with pytest.raises(ConfigError, match=message):
        _groups(tmp_path, **overrides)


def _positions(groups: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    return tiny_scan().positions_px[groups]


@pytest.mark.parametrize(
    "overrides",
    [
        {"gridsize": 1},
        {"n_groups": 4},
        {"seed": 7},
        {"subsample_seed": 7},
        {"n_subsample": 20},
        {"neighbor_count": 9},
        {"sequential_sampling": True},
        {"batch_size": 4},
        {"validation_fraction": 0.2},
        {"n_filters_scale": 2},
        {"architecture": "unrolled"},
        {"nepochs": 2},
    ],
    ids=str,
)
def test_the_setting_changes_the_training(tmp_path: Path, overrides: Mapping[str, object]) -> None:
    """A training with the setting ends elsewhere than one without."""
    base, changed = quick_training(tmp_path), quick_training(tmp_path, overrides)

    assert base.history != changed.history


def test_groups_are_what_was_asked_for(tmp_path: Path) -> None:
    """Their number is shared out between the sides of the split; their size is gridsize²."""
    groups = _groups(tmp_path, n_groups=18, gridsize=2, validation_fraction=0.25)

    assert groups.train.shape == (round(18 * 27 / 36), 4)
    assert groups.validation.shape == (9, 4)
    assert _groups(tmp_path, n_groups=18, gridsize=1, validation_fraction=0.0).train.shape == (18, 1)


@pytest.mark.parametrize("fraction", [0.12, 0.25, 0.5])
def test_no_group_crosses_the_border(tmp_path: Path, fraction: float) -> None:
    """Every group lies on one side of the split, and no pattern is on both."""
    groups = _groups(tmp_path, validation_fraction=fraction, n_groups=36)
    split = split_region(tiny_scan().positions_px, fraction)

    assert np.isin(groups.train, split.train).all()
    assert np.isin(groups.validation, split.validation).all()
    assert not np.intersect1d(groups.train, groups.validation).size


def test_nothing_is_held_out_when_told_so(tmp_path: Path) -> None:
    """With fraction 0 all patterns train and no validation runs."""
    run = observed_training(payload_for(tmp_path, {"validation_fraction": 0.0}))

    assert not run.observer.held_out
    assert run.model.history[0].validation is None


def test_members_come_from_the_nearest_neighbours(tmp_path: Path) -> None:
    """With more neighbours to choose from, groups get wider."""
    few, many = (_groups(tmp_path, n_groups=36, neighbor_count=k, validation_fraction=0.0) for k in (4, 30))

    width = [np.ptp(_positions(groups.train), axis=1).mean() for groups in (few, many)]
    assert width[1] > 1.5 * width[0]


def test_a_subsample_bounds_the_patterns(tmp_path: Path) -> None:
    """No more patterns take part than were asked for, on both sides together."""
    groups = _groups(tmp_path, n_subsample=18, n_groups=18, validation_fraction=0.25)

    assert len(np.unique(groups.train)) <= round(18 * 0.75)
    assert len(np.unique(groups.validation)) <= round(18 * 0.25)


def test_oversampling_gives_more_groups_than_patterns(tmp_path: Path) -> None:
    """It is refused unless enabled, and the pool bounds what it can give."""
    with pytest.raises(ConfigError, match="enable_oversampling"):
        _groups(tmp_path, n_groups=100)

    wide = _groups(tmp_path, n_groups=100, enable_oversampling=True, validation_fraction=0.0)
    pool = _groups(tmp_path, n_groups=100, enable_oversampling=True, neighbor_pool_size=20, validation_fraction=0.0)

    assert len(wide.train) == len(pool.train) == 100
    spread = [np.ptp(_positions(groups.train), axis=1).mean() for groups in (wide, pool)]
    assert spread[1] > spread[0]


def test_the_seeds_choose_the_groups(tmp_path: Path) -> None:
    """The draw follows the seed of the run, or its own one where that is given."""
    draws = {
        name: _groups(tmp_path, **seeds).train
        for name, seeds in {
            "seed 1": {"seed": 1},
            "seed 2": {"seed": 2},
            "seed 1, own 3": {"seed": 1, "subsample_seed": 3},
            "seed 2, own 3": {"seed": 2, "subsample_seed": 3},
        }.items()
    }

    assert not np.array_equal(draws["seed 1"], draws["seed 2"])
    assert np.array_equal(draws["seed 1, own 3"], draws["seed 2, own 3"])


def test_sequential_sampling_keeps_the_order_of_the_scan(tmp_path: Path) -> None:
    """Anchors come in scan order, and batches are not shuffled."""
    settings = {"sequential_sampling": True, "gridsize": 1, "validation_fraction": 0.0, "epochs": 2}

    run = observed_training(payload_for(tmp_path, settings))

    assert np.concatenate(run.observer.batches)[:, 0].tolist() == [0, 1, 2, 3, 4, 5] * 2


def test_the_order_changes_from_epoch_to_epoch(tmp_path: Path) -> None:
    """Each epoch sees all groups, in an order that its number and the seed decide."""
    run = observed_training(payload_for(tmp_path, {"n_groups": 20, "epochs": 2, "gridsize": 1, "batch_size": 32}))
    first, second = run.observer.batches

    assert sorted(first[:, 0]) == sorted(second[:, 0])
    assert not np.array_equal(first, second)
    orders = [EpochBatches([20], batch_size=3, seed=seed) for seed in (5, 5, 6)]
    for order in orders:
        order.set_epoch(3)
    assert list(orders[0]) == list(orders[1]) != list(orders[2])


def test_batches_have_the_size_asked_for(tmp_path: Path) -> None:
    """Groups per batch, with what is left in the last one."""
    run = observed_training(payload_for(tmp_path, {"batch_size": 4}))

    assert [batch.shape for batch in run.observer.batches] == [(4, 4), (1, 4)]
    assert [batch.shape for batch in run.observer.held_out] == [(4, 4)]


def test_epochs_are_counted(tmp_path: Path) -> None:
    """As many epochs are trained, and as many rows are in the history."""
    model = quick_training(tmp_path, {"max_epochs": 3})

    assert [row.epoch for row in model.history] == [0, 1, 2]
    assert [row.steps for row in model.history] == [3, 6, 9]


def test_another_scan_can_be_the_validation(tmp_path: Path) -> None:
    """Then the whole scan trains, and the other one is predicted at its own flux."""
    other = tiny_scan().subset(np.arange(5, 20))

    run = observed_training(payload_for(tmp_path, {"n_groups": 36}), validation=other)

    assert len(np.unique(np.concatenate(run.observer.batches)[:, 0])) == 36
    assert sorted(np.concatenate(run.observer.held_out)[:, 0]) == list(range(15))
    assert run.model.history[0].validation is not None


def test_another_scan_is_lit_by_its_own_flux(tmp_path: Path) -> None:
    """A validation scan of four times the photons is predicted under a probe of four times the energy."""
    scan = tiny_scan()
    brighter = attrs.evolve(scan, patterns=scan.patterns.astype(np.float64) * 4)
    payload = payload_for(tmp_path, {"n_groups": 36})
    module = build_module(payload, training_set(payload, [scan], brighter))

    with torch.no_grad():
        indices = torch.tensor([[0, 1, 2, 3]])
        energies = [
            float(module.predict_groups(indices, each).probes.abs().square().sum()) / 4
            for each in (*module.arms.training, *module.arms.validation)
        ]

    flux = float(scan.patterns.sum(axis=(1, 2), dtype=np.float64).mean())
    assert energies == pytest.approx([flux, 4 * flux], rel=1e-5)


def test_a_region_too_small_for_a_group_is_refused(tmp_path: Path) -> None:
    """The message names the share, not the group draw inside the region."""
    with pytest.raises(ConfigError, match=r"validation_fraction: expected 0, or a share of the 36 patterns .* = 4"):
        _groups(tmp_path, validation_fraction=0.05)


def test_a_subsample_larger_than_the_scan_is_refused(tmp_path: Path) -> None:
    """The message speaks of the whole scan."""
    with pytest.raises(ConfigError, match="n_subsample: expected at most 36 patterns, found 50"):
        _groups(tmp_path, n_subsample=50)


def test_patterns_of_another_size_are_refused(tmp_path: Path) -> None:
    """N is what the payload says, or nothing is trained."""
    payload = payload_for(tmp_path, {"N": 128})

    with pytest.raises(ScanError, match="expected 128 px patterns, as the payload says, found 64 px"):
        train(payload, tiny_scan())


def test_supervised_training_meets_the_known_object(tmp_path: Path) -> None:
    """Its labels are the truth in the network's scale; with them as patches the loss is nothing."""
    scan = tiny_scan()
    payload = payload_for(tmp_path, {"model_type": "supervised"})
    data = training_set(payload, [scan])
    module = build_module(payload, data)
    (arm,) = module.arms.training
    members = data.groups[0].train[0].astype(np.int64)
    prediction = module.predict_groups(torch.tensor(members)[None], arm)
    assert prediction.labels is not None
    assert scan.object is not None

    starts, _ = split_positions(scan.positions_px[members], 64)
    first = np.rint(starts - 31.5).astype(int)
    energy = np.sum(np.abs(scan.probe.astype(np.complex128)) ** 2)
    for label, (y, x) in zip(prediction.labels[0].numpy(), first, strict=True):
        truth = scan.object[y : y + 64, x : x + 64] * np.sqrt(energy / arm.patterns.flux)
        np.testing.assert_allclose(label, truth, rtol=1e-5)
    exact = attrs.evolve(prediction, single=prediction.labels, merged=prediction.labels)
    assert float(module.objective.total(exact)[0]) == 0.0


def test_supervised_training_needs_numbers_that_labels_hold() -> None:
    """An object that becomes infinite in the network's scale is refused."""
    scan = attrs.evolve(tiny_scan(), probe=1e8 * tiny_scan().probe, object=np.full((200, 200), 1e35, np.complex64))

    with pytest.raises(ScanError, match="object: expected numbers that complex64 holds in the network's scale"):
        ResidentScan(scan, labelled=True)


def test_supervised_training_learns(tmp_path: Path) -> None:
    """It is another training than from patterns alone, and its loss falls."""
    settings = {"epochs": 4, "n_groups": 9}
    pinn, known = (quick_training(tmp_path, {**settings, "model_type": kind}) for kind in ("pinn", "supervised"))

    assert not np.array_equal(weights(pinn), weights(known))
    assert known.history[-1].train < known.history[0].train
    assert known.history[-1].validation is not None


def test_supervised_training_needs_an_object(tmp_path: Path) -> None:
    """A scan without one, or with one that does not hold every patch, is refused."""
    payload = payload_for(tmp_path, {"model_type": "supervised"})
    scan = tiny_scan()
    assert scan.object is not None

    with pytest.raises(ScanError, match="object: expected the known object, for supervised training, found none"):
        train(payload, attrs.evolve(scan, object=None))
    with pytest.raises(ScanError, match="object: expected an object that holds every patch"):
        train(payload, attrs.evolve(scan, object=scan.object[:90]))


def test_the_loader_has_its_settings(tmp_path: Path) -> None:
    """Processes, pages, lifetime and prefetching are those of the execution record."""
    settings = {"num_workers": 2, "pin_memory": True, "persistent_workers": True, "prefetch_factor": 5}
    groups = np.zeros((6, 4), np.int32)

    plain = group_loader([groups], payload_for(tmp_path), shuffle=True)
    loader = group_loader([groups], payload_for(tmp_path, {}, **settings), shuffle=True)

    assert _settings(plain) == (0, False, False, None)
    assert _settings(loader) == (2, True, True, 5)


def _settings(loader: DataLoader[GroupBatch]) -> tuple[object, ...]:
    return loader.num_workers, loader.pin_memory, loader.persistent_workers, loader.prefetch_factor


def test_worker_processes_bring_the_same_batches(tmp_path: Path) -> None:
    """A training with loader processes is the training without, bit for bit."""
    settings = {"num_workers": 1, "persistent_workers": True, "prefetch_factor": 2}

    assert same(quick_training(tmp_path), quick_training(tmp_path, {}, **settings))
