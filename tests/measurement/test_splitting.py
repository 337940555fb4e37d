"""Holding out a region of a scan."""

from __future__ import annotations

import numpy as np

from ptycho_core.measurement.splitting import split_region


def test_the_end_of_the_longer_side_is_held_out() -> None:
    """On a scan that is wider than high, the rightmost columns."""
    y, x = np.mgrid[:4, :10].reshape(2, -1).astype(float)

    split = split_region(np.stack([y, x], axis=1), 0.2)

    assert set(x[split.validation]) == {8.0, 9.0}
    assert set(x[split.train]) == set(range(8))


def test_the_scan_order_does_not_matter() -> None:
    """The same places are held out however the scan went."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, [10, 50], (40, 2))
    order = rng.permutation(40)

    straight, shuffled = split_region(positions, 0.25), split_region(positions[order], 0.25)

    assert set(order[shuffled.validation]) == set(straight.validation)


def test_nothing_is_held_out_at_fraction_zero() -> None:
    """Everything trains."""
    split = split_region(np.arange(14.0).reshape(7, 2), 0.0)

    assert split.train.tolist() == list(range(7))
    assert split.validation.tolist() == []


def test_a_single_pattern_trains() -> None:
    """There is nothing to hold out of one, and nothing at all of none."""
    assert split_region(np.array([[3.0, 4.0]]), 0.3).train.tolist() == [0]
    assert split_region(np.empty((0, 2)), 0.3).train.tolist() == []


def test_ties_are_broken_by_scan_order() -> None:
    """Of patterns at one place the later ones are held out."""
    split = split_region(np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 0.0], [5.0, 0.0]]), 0.5)

    assert split.validation.tolist() == [2, 3]
