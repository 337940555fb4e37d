"""Groups of neighbouring scan points, as indices only.

A group is an anchor and C - 1 of its nearest neighbours, C = gridsize². Every anchor's neighbour combinations are
numbered by the combinatorial number system (Knuth, TAOCP 4A, 7.2.1.3), and each round over the anchors moves to another
number by a random stride coprime to their count. So rows differ by construction, anchors are used evenly, and nothing
loops over groups.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import ConfigError, Problem, raise_if_any
from ptycho_core.frozen import read_only
from ptycho_core.measurement.scan import Scan  # noqa: TC001 - signatures are read at run time too

_Indices = npt.NDArray[np.int64]

# Strides are multiplied by round numbers in int64; both stay below 2**31.
_LARGEST_CYCLE = 2**31 - 1
_LARGEST_RANK = 2**62


@attrs.frozen(kw_only=True)
class Grouping:
    """How groups are drawn.

    Attributes:
        n_groups: number of groups, exactly.
        gridsize: a group has C = gridsize² members.
        neighbor_count: K, the members come from the K nearest neighbours of the anchor (all, where there are fewer).
        seed: seed of the draw; None draws differently every time.
        n_subsample: number of patterns drawn before grouping; None keeps all.
        enable_oversampling: allow more groups than patterns, with several combinations per anchor.
        neighbor_pool_size: K for oversampling; None means `neighbor_count`.
        sequential_sampling: anchors in scan order instead of random order.

    Raises:
        ConfigError: with every problem there is.
    """

    n_groups: int
    gridsize: int
    neighbor_count: int
    seed: int | None
    n_subsample: int | None = None
    enable_oversampling: bool = False
    neighbor_pool_size: int | None = None
    sequential_sampling: bool = False

    def __attrs_post_init__(self) -> None:
        problems = [
            Problem(path=path, expected=f"an integer >= {least}", found=repr(value))
            for path, value, least in (
                ("n_groups", self.n_groups, 1),
                ("gridsize", self.gridsize, 1),
                ("neighbor_count", self.neighbor_count, 1),
                ("seed", self.seed, 0),
                ("n_subsample", self.n_subsample, 1),
                ("neighbor_pool_size", self.neighbor_pool_size, 1),
            )
            if not (_is_integer(value) and value >= least if value is not None else path in _OPTIONAL)
        ]
        raise_if_any(ConfigError, "grouping", problems or self._neighbour_problems())

    @property
    def C(self) -> int:  # noqa: N802 - the field's own name for it
        """Members of a group."""
        return self.gridsize**2

    @property
    def pool(self) -> int:
        """Number of nearest neighbours that the other members are drawn from."""
        if self.enable_oversampling and self.neighbor_pool_size is not None:
            return self.neighbor_pool_size
        return self.neighbor_count

    def _neighbour_problems(self) -> list[Problem]:
        problems = []
        pool, asked = self.neighbor_pool_size, self.neighbor_count
        if self.C > 1 and asked < self.C:
            problems.append(
                Problem(
                    path="neighbor_count",
                    expected=f"K >= C = gridsize² = {self.C}",
                    found=str(asked),
                    fix=f"K={asked} must be >= C={self.C}",
                )
            )
        if pool is not None and self.enable_oversampling and self.C > 1 and pool < self.C:
            expected = f"neighbor_pool_size >= C = gridsize² = {self.C} (OVERSAMPLING-001)"
            problems.append(Problem(path="neighbor_pool_size", expected=expected, found=str(pool)))
        if pool is not None and not self.enable_oversampling and pool != asked:
            problems.append(
                Problem(
                    path="neighbor_pool_size",
                    expected="enable_oversampling, without which no pool is drawn from",
                    found=f"a pool of {pool} and enable_oversampling off",
                    fix="set enable_oversampling or drop neighbor_pool_size",
                )
            )
        return problems


_OPTIONAL = frozenset({"seed", "n_subsample", "neighbor_pool_size"})


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _to_indices(value: npt.ArrayLike) -> npt.NDArray[np.int32]:
    return read_only(np.asarray(value, dtype=np.int32))


@attrs.frozen(eq=False)
class Groups:
    """Index groups into a scan.

    Attributes:
        indices: (n_groups, C) int32, read-only; column 0 is the anchor, no row names a point twice.
    """

    indices: npt.NDArray[np.int32] = attrs.field(converter=_to_indices)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.indices)

    @property
    def C(self) -> int:  # noqa: N802 - the field's own name for it
        """Members of a group."""
        return int(self.indices.shape[1])

    def coverage(self, n_patterns: int) -> npt.NDArray[np.int64]:
        """Count how often each scan point is used.

        Args:
            n_patterns: number of patterns of the scan.

        Returns:
            (n_patterns,) int64.
        """
        return np.bincount(self.indices.ravel(), minlength=n_patterns).astype(np.int64, copy=False)


def group_scan(scan: Scan, grouping: Grouping) -> Groups:
    """Draw groups of neighbouring scan points; a pure function of the positions, the settings and the seed.

    Neighbours at equal distance are taken in the order of the search tree. The generator is local, so neither NumPy's
    global state nor other draws matter.

    Args:
        scan: the measured scan; only its positions are looked at.
        grouping: how to draw.

    Returns:
        Exactly `grouping.n_groups` groups; no two have the same anchor and the same members.

    Raises:
        ConfigError: when the scan cannot give that many, naming the largest possible number.
    """
    return group_positions(scan.positions_px, grouping)


def group_positions(positions_px: npt.NDArray[np.float64], grouping: Grouping) -> Groups:
    """Draw groups of neighbouring positions, as `group_scan` does for a scan that has them.

    Args:
        positions_px: (n, 2) positions, in object pixels.
        grouping: how to draw.

    Returns:
        Exactly `grouping.n_groups` groups of indices into the positions.

    Raises:
        ConfigError: when the positions cannot give that many, naming the largest possible number.
    """
    check_grouping(len(positions_px), grouping)
    rng = np.random.default_rng(grouping.seed)
    kept = _subsample(len(positions_px), grouping.n_subsample, rng)
    positions = positions_px[kept]
    n_points = len(kept)
    order = np.arange(n_points) if grouping.sequential_sampling else rng.permutation(n_points)
    rows = np.arange(grouping.n_groups)
    anchors = order[rows % n_points]
    if grouping.C == 1:
        return Groups(kept[anchors][:, np.newaxis])
    pool = min(grouping.pool, n_points - 1)
    ranks = _distinct_ranks(anchors, rows // n_points, math.comb(pool, grouping.C - 1), rng)
    columns = _combinations(ranks, pool, grouping.C - 1)
    # Only the anchors that are used need their neighbours.
    used = order[: min(n_points, grouping.n_groups)]
    neighbours = _nearest(positions, used, pool)
    members = np.take_along_axis(neighbours[rows % n_points], columns, axis=1)
    return Groups(kept[np.column_stack([anchors, members])])


def check_grouping(n_patterns: int, grouping: Grouping) -> None:
    """Refuse groups that this many patterns cannot give.

    Raises:
        ConfigError: naming the largest possible number.
    """
    asked, kept = grouping.n_groups, grouping.n_subsample
    problems = []
    if kept is not None and kept > n_patterns:
        problems.append(Problem(path="n_subsample", expected=f"at most {n_patterns} patterns", found=str(kept)))
    n_points = n_patterns if kept is None else min(kept, n_patterns)
    pool = min(grouping.pool, n_points - 1)
    if n_points < grouping.C:
        expected = f"at least C = gridsize² = {grouping.C} scan points"
        problems.append(Problem(path="gridsize", expected=expected, found=f"{n_points} scan points"))
    elif asked > n_points and grouping.C == 1:
        fix = "with gridsize 1 a group is one scan point, so there are no more"
        problems.append(Problem(path="n_groups", expected=f"at most {n_points}", found=str(asked), fix=fix))
    elif asked > n_points and not grouping.enable_oversampling:
        fix = (
            f"n_groups={asked} exceeds the {n_points} scan points; take {n_points} or fewer, or set "
            "enable_oversampling for several groups at a point (OVERSAMPLING-001)"
        )
        problems.append(Problem(path="n_groups", expected=f"at most {n_points}", found=str(asked), fix=fix))
    elif math.comb(pool, grouping.C - 1) > _LARGEST_RANK:
        expected = "a pool with fewer than 2**62 combinations"
        path = "neighbor_pool_size" if grouping.pool != grouping.neighbor_count else "neighbor_count"
        problems.append(Problem(path=path, expected=expected, found=str(grouping.pool)))
    elif asked > (most := n_points * _cycle(math.comb(pool, grouping.C - 1))):
        fix = f"{n_points} scan points with {pool} neighbours each have no more groups (OVERSAMPLING-001)"
        problems.append(Problem(path="n_groups", expected=f"at most {most}", found=str(asked), fix=fix))
    raise_if_any(ConfigError, "grouping", problems)


def _cycle(n_combinations: int) -> int:
    """Give the number of combinations that one anchor can go through."""
    return min(n_combinations, _LARGEST_CYCLE)


def _subsample(n_patterns: int, n_subsample: int | None, rng: np.random.Generator) -> _Indices:
    if n_subsample is None:
        return np.arange(n_patterns)
    return np.sort(rng.choice(n_patterns, n_subsample, replace=False))


def _nearest(positions: npt.NDArray[np.float64], anchors: _Indices, count: int) -> _Indices:
    """Find the `count` nearest other points of each anchor, nearest first: (anchors, count)."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 - keeps `import ptycho_core` quick

    _, found = cKDTree(positions).query(positions[anchors], k=count + 1)
    candidates: _Indices = np.asarray(found, dtype=np.int64)
    # Among coincident points the anchor need not come first, or at all: move it to the end, then cut the end off.
    itself = candidates == anchors[:, np.newaxis]
    others = np.argsort(itself, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(candidates, others, axis=1)


def _distinct_ranks(anchors: _Indices, rounds: _Indices, n_combinations: int, rng: np.random.Generator) -> _Indices:
    """Number the combination of each row so that no anchor meets a number twice: (n_groups,) below n_combinations."""
    cycle = _cycle(n_combinations)
    n_points = int(anchors.max()) + 1
    start = rng.integers(0, cycle, size=n_points)
    stride = _coprime(cycle, n_points, rng)
    codes = (start[anchors] + rounds * stride[anchors]) % cycle
    # Where there are more combinations than a cycle has steps, each step stands for a bucket of them.
    bucket = n_combinations // cycle
    return codes * bucket + rng.integers(0, bucket, size=len(codes))


def _coprime(modulus: int, size: int, rng: np.random.Generator) -> _Indices:
    """Draw numbers from 1 to modulus that share no factor with it."""
    drawn = rng.integers(1, modulus, size=size, endpoint=True)
    while (shared := np.gcd(drawn, modulus) > 1).any():
        drawn[shared] = rng.integers(1, modulus, size=int(np.count_nonzero(shared)), endpoint=True)
    return drawn


def _combinations(ranks: _Indices, pool: int, size: int) -> _Indices:
    """Turn ranks into `size` different numbers below `pool`, (ranks, size), one to one."""
    columns = np.empty((len(ranks), size), dtype=np.int64)
    rest = ranks.copy()
    for k in range(size, 0, -1):
        # Ranks stay below the largest rank, so larger table entries need not be told apart (nor fit).
        smaller = np.array([min(math.comb(c, k), _LARGEST_RANK) for c in range(pool)], dtype=np.int64)
        columns[:, k - 1] = np.searchsorted(smaller, rest, side="right") - 1
        rest -= smaller[columns[:, k - 1]]
    return columns
