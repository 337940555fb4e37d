"""Holding out a part of a scan."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.errors import Problem, ScanError

_CURVE_BITS = 20


@attrs.frozen(kw_only=True, eq=False)
class RegionSplit:
    """Scan indices for training and for validation, int64, sorted, disjoint, together all."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def split_region(positions_px: NDArray[np.float64], fraction: float) -> RegionSplit:
    """Hold out a band at the end of the scan's longer side.

    Neighbouring patterns see the same object, so a random split would validate on what was trained on; a band shares
    only its edge with the rest.

    Args:
        positions_px: (n, 2) scan positions (y, x).
        fraction: share of the patterns to hold out, 0 to 0.5.

    Returns:
        The split; `validation` has round(fraction * n) members, ties broken by scan order.
    """
    count = len(positions_px)
    held_out = round(fraction * count)
    axis = int(np.argmax(np.ptp(positions_px, axis=0))) if count else 0
    order = np.argsort(positions_px[:, axis], kind="stable")
    return RegionSplit(train=np.sort(order[: count - held_out]), validation=np.sort(order[count - held_out :]))


def split_halves(positions_px: NDArray[np.float64], seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a scan into two halves that cover the same area alike.

    Positions are paired with a near neighbour, the next one along a Z-order curve, and chance gives one of each pair
    to either half.

    Args:
        positions_px: (n, 2) scan positions (y, x), n >= 2.
        seed: of that chance.

    Returns:
        Two sorted, disjoint arrays of scan indices, together all, that differ in length by one at most.

    Raises:
        ScanError: fewer than two positions.
    """
    if len(positions_px) < 2:
        problem = Problem(path="positions_px", expected="two or more", found=str(len(positions_px)))
        raise ScanError("split into halves", [problem])
    order = np.argsort(_along_curve(positions_px), kind="stable")
    first_of_pair = np.random.default_rng(seed).permuted(np.tile([0, 1], (-(-len(order) // 2), 1)), axis=1)
    half = first_of_pair.reshape(-1)[: len(order)]
    return np.sort(order[half == 0]), np.sort(order[half == 1])


def _along_curve(positions_px: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each position on a Z-order curve through the scanned area (Morton, 1966)."""
    corner = positions_px.min(axis=0)
    extent = max(float(np.ptp(positions_px, axis=0).max()), np.finfo(np.float64).tiny)
    cells = ((positions_px - corner) / extent * (2**_CURVE_BITS - 1)).astype(np.int64)
    place = np.zeros(len(cells), dtype=np.int64)
    for bit in range(_CURVE_BITS):
        for axis in (0, 1):
            place |= ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
    return place
