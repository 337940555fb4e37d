"""Grouping: settings, messages and hand-made examples."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_core.errors import ConfigError
from ptycho_core.measurement.grouping import Grouping, Groups, group_scan
from ptycho_core.measurement.scan import MeasurementDomain, Scan


def _scan(n_points: int) -> Scan:
    """Points on a line, 1, 2, 4, 8 … px apart, so that neighbours are known by heart."""
    y = 2.0 ** np.arange(n_points)
    return Scan(
        patterns=np.ones((n_points, 4, 4), dtype=np.uint16),
        domain=MeasurementDomain.COUNTS,
        positions_px=np.column_stack([y, np.zeros(n_points)]),
        probe=np.ones((4, 4)),
    )


def test_gridsize_one_gives_every_point_once() -> None:
    """With gridsize 1 and as many groups as points each point is its own group."""
    groups = group_scan(_scan(7), Grouping(n_groups=7, gridsize=1, neighbor_count=1, seed=3))

    assert groups.C == 1
    assert sorted(groups.indices[:, 0]) == list(range(7))


def test_sequential_sampling_takes_the_first_points() -> None:
    """Anchors come in scan order."""
    grouping = Grouping(n_groups=3, gridsize=2, neighbor_count=4, seed=3, sequential_sampling=True)

    assert list(group_scan(_scan(7), grouping).indices[:, 0]) == [0, 1, 2]


def test_companions_are_the_nearest_neighbours() -> None:
    """With K = C the last member of a group is never farther than the fourth neighbour."""
    grouping = Grouping(n_groups=8, gridsize=2, neighbor_count=4, seed=3, sequential_sampling=True)

    companions = group_scan(_scan(8), grouping).indices[:, 1:]

    # On the line of doubling steps everything below comes nearer than the next point above.
    assert set(companions[0]) <= {1, 2, 3, 4}
    assert set(companions[7]) <= {6, 5, 4, 3}


def test_coincident_points_still_exclude_the_anchor() -> None:
    """Many points in one place do not make a point its own neighbour."""
    positions = np.zeros((12, 2))
    positions[-1] = 5.0
    scan = Scan(
        patterns=np.ones((12, 2, 2), dtype=np.uint16), domain="counts", positions_px=positions, probe=np.ones((2, 2))
    )

    indices = group_scan(scan, Grouping(n_groups=12, gridsize=2, neighbor_count=4, seed=0)).indices

    assert all(len(set(map(int, row))) == 4 for row in indices)


def test_different_seeds_differ() -> None:
    """The seed matters."""
    scan = _scan(30)

    one, other = (group_scan(scan, Grouping(n_groups=20, gridsize=2, neighbor_count=7, seed=seed)) for seed in (0, 1))

    assert not np.array_equal(one.indices, other.indices)


def test_no_seed_draws_anew() -> None:
    """Without a seed two draws differ."""
    grouping = Grouping(n_groups=30, gridsize=2, neighbor_count=7, seed=None)

    assert not np.array_equal(group_scan(_scan(30), grouping).indices, group_scan(_scan(30), grouping).indices)


def test_oversampling_gives_more_groups_than_points() -> None:
    """A hundred points give two hundred groups of four, each point an anchor twice."""
    rng = np.random.default_rng(5)
    scan = Scan(
        patterns=np.ones((100, 2, 2), dtype=np.uint16),
        domain="counts",
        positions_px=rng.uniform(0.0, 50.0, (100, 2)),
        probe=np.ones((2, 2)),
    )

    groups = group_scan(scan, Grouping(n_groups=200, gridsize=2, neighbor_count=7, seed=5, enable_oversampling=True))

    assert groups.indices.shape == (200, 4)
    assert np.array_equal(np.bincount(groups.indices[:, 0]), np.full(100, 2))


def test_all_combinations_of_a_neighbourhood_are_equally_likely() -> None:
    """Over many seeds each of the four companions is left out about as often as any other."""
    grouping = {"n_groups": 1, "gridsize": 2, "neighbor_count": 4, "sequential_sampling": True}
    scan = _scan(5)

    left_out = [
        next(iter({1, 2, 3, 4} - set(map(int, group_scan(scan, Grouping(seed=seed, **grouping)).indices[0]))))  # type: ignore[arg-type]
        for seed in range(400)
    ]

    # 100 expected each, standard deviation 8.7.
    assert np.all(np.abs(np.bincount(left_out, minlength=5)[1:] - 100) < 45)


def test_huge_neighbourhoods_are_drawn_from_without_listing_them() -> None:
    """A hundred neighbours for groups of 25 (about 10²³ combinations) are refused, fifty (10¹⁴) are drawn from."""
    rng = np.random.default_rng(0)
    scan = Scan(
        patterns=np.ones((120, 2, 2), dtype=np.uint16),
        domain="counts",
        positions_px=rng.uniform(0.0, 50.0, (120, 2)),
        probe=np.ones((2, 2)),
    )

    groups = group_scan(scan, Grouping(n_groups=240, gridsize=5, neighbor_count=50, seed=0, enable_oversampling=True))

    assert np.all(np.diff(np.sort(groups.indices, axis=1), axis=1) > 0)
    with pytest.raises(ConfigError, match=r"neighbor_count: .*2\*\*62"):
        group_scan(scan, Grouping(n_groups=24, gridsize=5, neighbor_count=100, seed=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbor_count": 3}, "K=3 must be >= C=4"),
        (
            {"n_groups": 8},
            "n_groups=8 exceeds the 7 scan points; take 7 or fewer, or set enable_oversampling for",
        ),
        ({"n_groups": 8}, "OVERSAMPLING-001"),
        ({"n_groups": 8, "gridsize": 1, "enable_oversampling": True}, "n_groups: expected at most 7, found 8"),
        ({"n_groups": 300, "enable_oversampling": True}, "n_groups: expected at most 28, found 300"),
        ({"enable_oversampling": True, "neighbor_pool_size": 3}, "neighbor_pool_size >= C"),
        ({"neighbor_pool_size": 6}, "set enable_oversampling or drop neighbor_pool_size"),
        ({"gridsize": 3, "neighbor_count": 9}, "at least C = gridsize² = 9 scan points, found 7"),
        ({"n_subsample": 9}, "n_subsample: expected at most 7 patterns, found 9"),
        ({"n_subsample": 3}, "at least C = gridsize² = 4 scan points, found 3"),
        ({"n_groups": 0}, "n_groups: expected an integer >= 1, found 0"),
        ({"n_groups": True}, "n_groups: expected an integer >= 1, found True"),
        ({"n_groups": None}, "n_groups: expected an integer >= 1, found None"),
        ({"seed": -1}, "seed: expected an integer >= 0, found -1"),
    ],
)
def test_what_cannot_be_grouped_is_refused_with_the_reason(settings: dict[str, int], message: str) -> None:
    """Each impossible request names the setting, the limit and what was asked for."""
    usual = {"n_groups": 5, "gridsize": 2, "neighbor_count": 4, "seed": 0}

    with pytest.raises(ConfigError) as caught:
        group_scan(_scan(7), Grouping(**(usual | settings)))  # type: ignore[arg-type]

    assert message in str(caught.value)


def test_all_wrong_settings_are_reported_together() -> None:
    """Two wrong settings give two problems."""
    with pytest.raises(ConfigError) as caught:
        Grouping(n_groups=0, gridsize=-1, neighbor_count=4, seed=0)

    assert [problem.path for problem in caught.value.problems] == ["n_groups", "gridsize"]


def test_a_pool_equal_to_the_neighbours_is_accepted_without_oversampling() -> None:
    """Asking for what happens anyway is no error."""
    grouping = Grouping(n_groups=5, gridsize=2, neighbor_count=6, seed=0, neighbor_pool_size=6)

    assert group_scan(_scan(7), grouping).n_groups == 5


def test_the_pool_replaces_the_neighbours_when_oversampling() -> None:
    """A pool of five neighbours gives ten triples per anchor, though four neighbours were asked for otherwise."""
    grouping = Grouping(
        n_groups=70, gridsize=2, neighbor_count=4, seed=0, enable_oversampling=True, neighbor_pool_size=5
    )

    assert group_scan(_scan(7), grouping).n_groups == 70


def test_groups_are_read_only() -> None:
    """Nobody can change the indices of a grouping."""
    groups = Groups(np.zeros((2, 1), dtype=np.int32))

    with pytest.raises(ValueError, match="read-only"):
        groups.indices[0, 0] = 1
