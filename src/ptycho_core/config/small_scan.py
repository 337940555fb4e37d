"""Groups and a held-out region for scans that are too small for the usual ones."""

from __future__ import annotations

from ptycho_core.config.overrides import Layer, Resolution, Settings
from ptycho_core.config.table import TRAINING

_MOST_HELD_OUT = 4  # at most one of so many patterns is held out for the sake of a larger group


def for_few_patterns(resolution: Resolution, n_patterns: int | None) -> Resolution:
    """Return the settings of a training with groups and a held-out region that its scan can give.

    Args:
        resolution: the settings; what somebody chose stays.
        n_patterns: number of patterns of the scan; None where nobody has counted them.
    """
    values, sources = resolution.values, resolution.provenance
    if n_patterns is None or values["test_data_file"] is not None:
        return resolution
    now = int(str(values["gridsize"])), float(str(values["validation_fraction"]))
    suited = suited_to(
        n_patterns,
        gridsize=now[0],
        fraction=now[1],
        gridsize_free=not sources["gridsize"].chosen,
        fraction_free=not sources["validation_fraction"].chosen,
    )
    names = ("gridsize", "validation_fraction")
    moved = {key: new for key, old, new in zip(names, now, suited, strict=True) if old != new}
    return Resolution(
        values=Settings(TRAINING, {**values, **moved}),
        provenance=Settings(TRAINING, {**sources, **dict.fromkeys(moved, Layer.SCAN)}),
    )


def suited_to(
    n_patterns: int, *, gridsize: int, fraction: float, gridsize_free: bool, fraction_free: bool
) -> tuple[int, float]:
    """Return a gridsize and a share to hold out that a scan of so many patterns can give.

    A held-out region has to hold one group of C = gridsize² patterns. A larger share is held out for it, up to a
    quarter; where that is not enough, the groups are smaller. What somebody chose stays, and the other one does what it
    can: for the sake of a chosen gridsize up to half of the scan is held out.

    Args:
        n_patterns: number of patterns of the scan.
        gridsize: as set.
        fraction: share to hold out, as set, 0 to 0.5; one of no whole pattern holds out nothing.
        gridsize_free: whether nobody chose the gridsize.
        fraction_free: whether nobody chose the share.

    Returns:
        Gridsize and share. They are as given where the scan is large enough, and where nothing that is free helps.
    """
    wanted = round(fraction * n_patterns)
    largest_share = n_patterns // (_MOST_HELD_OUT if gridsize_free else 2)
    most = max(wanted, largest_share) if wanted and fraction_free else wanted
    for side in range(gridsize, 0, -1) if gridsize_free else (gridsize,):
        held_out = max(wanted, side**2) if wanted else 0
        if held_out <= most and side**2 <= n_patterns - held_out:
            return side, fraction if held_out == wanted else held_out / n_patterns
    return gridsize, fraction
