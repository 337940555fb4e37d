"""Holding out a region of a scan."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray


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
