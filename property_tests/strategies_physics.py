"""Strategies for the physics: arrays from seeds, scan positions, objects that hold every patch."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Complex = npt.NDArray[np.complex128]
Real = npt.NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)


@st.composite
def complex_arrays(draw: st.DrawFn, *shape: int) -> Complex:
    """Complex normal noise of a shape; shrinking finds a small seed, not small numbers."""
    rng = np.random.default_rng(draw(seeds))
    noise: Complex = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return noise


def positions(*, low: float, high: float, max_size: int = 8) -> st.SearchStrategy[Real]:
    """(n, 2) positions with n >= 1, whole, half and arbitrary fractions among them."""
    coordinate = st.one_of(
        st.integers(int(np.ceil(low)), int(np.floor(high))).map(float),
        st.integers(int(np.ceil(2 * low)), int(np.floor(2 * high))).map(lambda k: k / 2),
        st.floats(low, high),
    )
    point = st.tuples(coordinate, coordinate)
    return st.lists(point, min_size=1, max_size=max_size).map(lambda points: np.array(points, dtype=np.float64))


@attrs.frozen(kw_only=True, eq=False)
class Placement:
    """Positions of patches of one size, all inside an object of a given shape and origin."""

    positions_px: Real
    size: int
    shape: tuple[int, int]
    origin_px: tuple[int, int]
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator: the same numbers on every access."""
        return np.random.default_rng(self.seed)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Any patch size, any origin, an object with a rim of at least one pixel around every patch."""
    size = draw(sizes)
    origin = draw(st.tuples(st.integers(-50, 50), st.integers(-50, 50)))
    where = draw(positions(low=size / 2 + 1, high=size / 2 + 13))
    side = size + 16
    return Placement(
        positions_px=where + np.array(origin), size=size, shape=(side, side + 3), origin_px=origin, seed=draw(seeds)
    )
