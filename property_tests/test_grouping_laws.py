"""Laws of grouping."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ptycho_core.errors import ConfigError
from ptycho_core.measurement.grouping import Grouping, Groups, group_scan
from ptycho_core.measurement.scan import Scan
from strategies_scan import grouped_points, scan_at

Case = tuple[Scan, Grouping]


def _distances(scan: Scan) -> npt.NDArray[np.float64]:
    return np.asarray(cdist(scan.positions_px, scan.positions_px))


@given(grouped_points())
def test_the_number_of_groups_is_exact_and_indices_are_in_range(case: Case) -> None:
    """A grouping gives exactly what was asked for, as int32 indices into the scan."""
    scan, grouping = case

    groups = group_scan(scan, grouping)

    assert groups.indices.shape == (grouping.n_groups, grouping.gridsize**2)
    assert groups.indices.dtype == np.int32
    assert groups.indices.min() >= 0
    assert groups.indices.max() < scan.n_patterns


@given(grouped_points())
def test_no_group_names_a_point_twice(case: Case) -> None:
    """The members of a group differ from each other."""
    indices = np.sort(group_scan(*case).indices, axis=1)

    assert not np.any(np.diff(indices, axis=1) == 0)


@given(grouped_points())
def test_no_two_groups_are_the_same(case: Case) -> None:
    """No two groups share both the anchor and the set of its companions."""
    indices = group_scan(*case).indices

    rows = np.column_stack([indices[:, :1], np.sort(indices[:, 1:], axis=1)])

    assert len(np.unique(rows, axis=0)) == len(rows)


@given(grouped_points())
def test_members_are_among_the_nearest_neighbours(case: Case) -> None:
    """No member is farther from the anchor than its K-th nearest other point."""
    scan, grouping = case
    indices = group_scan(scan, grouping).indices
    distances = _distances(scan)
    np.fill_diagonal(distances, np.inf)
    reach = np.sort(distances, axis=1)[:, min(grouping.neighbor_count, scan.n_patterns - 1) - 1]

    farthest = distances[indices[:, :1], indices[:, 1:]].max(axis=1, initial=0.0)

    assert np.all(farthest <= reach[indices[:, 0]] * (1.0 + 1e-12))


@given(grouped_points())
def test_anchors_are_used_evenly(case: Case) -> None:
    """No point is an anchor twice as long as another has not been one."""
    scan, grouping = case

    uses = np.bincount(group_scan(scan, grouping).indices[:, 0], minlength=scan.n_patterns)

    assert uses.max() - uses.min() <= 1


@given(grouped_points())
def test_the_draw_depends_on_positions_settings_and_seed_alone(case: Case) -> None:
    """The global generator neither matters nor is touched."""
    np.random.seed(1)  # noqa: NPY002 - the global state is what is tested
    untouched = np.random.random()  # noqa: NPY002
    first = group_scan(*case)
    np.random.seed(1)  # noqa: NPY002
    second = group_scan(*case)

    assert np.array_equal(first.indices, second.indices)
    assert np.random.random() == untouched  # noqa: NPY002


@given(st.integers(4, 30), st.integers(0, 1000), st.integers(-(2**20), 2**20), st.integers(-4, 4))
def test_the_stage_origin_and_the_unit_do_not_matter(n_points: int, seed: int, origin_px: int, exponent: int) -> None:
    """Moving all positions together, or scaling them by a power of two, gives the same groups."""
    # Sixteenths of a pixel, so that moving and scaling are exact.
    grid = np.random.default_rng(seed).integers(0, 2**12, (n_points, 2)) / 16.0
    distances = np.sort(_distances(scan_at(grid)), axis=1)
    assume(not np.any(np.diff(distances, axis=1) < 1e-9))
    grouping = Grouping(n_groups=n_points, gridsize=2, neighbor_count=5, seed=seed)

    moved = group_scan(scan_at((grid + origin_px) * 2.0**exponent), grouping)

    assert np.array_equal(moved.indices, group_scan(scan_at(grid), grouping).indices)


def _every_group(scan: Scan, neighbor_count: int, seed: int) -> set[tuple[int, frozenset[int]]]:
    """Draw all groups of four that there are, which shows every anchor's whole neighbourhood."""
    pool = min(neighbor_count, scan.n_patterns - 1)
    grouping = Grouping(
        n_groups=scan.n_patterns * math.comb(pool, 3),
        gridsize=2,
        neighbor_count=neighbor_count,
        seed=seed,
        enable_oversampling=True,
    )
    return _as_sets(group_scan(scan, grouping).indices)


@given(st.integers(4, 9), st.integers(4, 6), st.integers(0, 1000))
def test_renaming_the_points_renames_the_groups(n_points: int, neighbor_count: int, seed: int) -> None:
    """Where no distances tie, the possible groups do not depend on the order of the scan, nor on the seed."""
    rng = np.random.default_rng(seed)
    scan = scan_at(rng.uniform(0.0, 100.0, (n_points, 2)))
    new_order = rng.permutation(n_points)

    renamed = _every_group(scan.subset(new_order), neighbor_count, seed)

    expected = _every_group(scan, neighbor_count, seed + 1)
    assert {(new_order[anchor], frozenset(new_order[list(others)])) for anchor, others in renamed} == expected


def _as_sets(indices: npt.NDArray[np.integer]) -> set[tuple[int, frozenset[int]]]:
    return {(int(row[0]), frozenset(map(int, row[1:]))) for row in indices}


@given(grouped_points())
def test_coverage_counts_every_use(case: Case) -> None:
    """Coverage sums to the number of places in all groups and counts each point's appearances."""
    scan, grouping = case
    groups = group_scan(scan, grouping)

    coverage = groups.coverage(scan.n_patterns)

    assert coverage.shape == (scan.n_patterns,)
    assert list(coverage) == [int(np.count_nonzero(groups.indices == point)) for point in range(scan.n_patterns)]


@given(grouped_points(), st.data())
def test_a_subsample_is_all_that_is_grouped(case: Case, data: st.DataObject) -> None:
    """With `n_subsample` at most that many different points appear."""
    scan, grouping = case
    kept = data.draw(st.integers(grouping.C, scan.n_patterns))
    smaller = Grouping(
        n_groups=data.draw(st.integers(1, kept)),
        gridsize=grouping.gridsize,
        neighbor_count=grouping.neighbor_count,
        seed=grouping.seed,
        n_subsample=kept,
    )

    groups = group_scan(scan, smaller)

    assert len(np.unique(groups.indices)) <= kept
    assert len(np.unique(groups.indices[:, 0])) == smaller.n_groups


@given(grouped_points(), st.integers(1, 5))
def test_one_group_too_many_is_refused(case: Case, more: int) -> None:
    """Without oversampling more groups than points are an error, never a silent cap."""
    scan, grouping = case
    asked = scan.n_patterns + more
    greedy = Grouping(
        n_groups=asked, gridsize=grouping.gridsize, neighbor_count=grouping.neighbor_count, seed=grouping.seed
    )

    with pytest.raises(ConfigError, match=f"found {asked}"):
        group_scan(scan, greedy)


@given(st.integers(5, 9), st.integers(4, 6), st.integers(0, 100))
def test_oversampling_reaches_every_group_there_is(n_points: int, neighbor_count: int, seed: int) -> None:
    """The largest possible number of groups is reached, and one more is refused."""
    rng = np.random.default_rng(seed)
    scan = scan_at(rng.uniform(0.0, 100.0, (n_points, 2)))
    pool = min(neighbor_count, n_points - 1)
    most = n_points * (pool * (pool - 1) * (pool - 2)) // 6

    def draw(n_groups: int) -> Groups:
        grouping = Grouping(
            n_groups=n_groups, gridsize=2, neighbor_count=neighbor_count, seed=seed, enable_oversampling=True
        )
        return group_scan(scan, grouping)

    assert len(_as_sets(draw(most).indices)) == most
    with pytest.raises(ConfigError, match=f"at most {most}"):
        draw(most + 1)
