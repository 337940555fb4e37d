"""How far a trained model's reconstructions of two halves of a scan agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_core.measurement.splitting import split_halves
from ptycho_core.results.split_half import split_half

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.metrics import Comparison, ComparisonSettings
    from ptycho_core.results.reconstruction import Reconstruction


def split_half_agreement(
    reconstruct: Callable[[Scan], Reconstruction],
    scan: Scan,
    *,
    threshold: float = 0.1,
    margin_px: int = 0,
    settings: ComparisonSettings | None = None,
) -> Comparison:
    """Reconstruct two interleaved halves of a scan, each by itself, and compare them.

    Args:
        reconstruct: with a network and its refined probe; both halves share them, see `split_half` on what that means.
        scan: patterns of the size that the model was trained on.
        threshold: fraction of the largest coverage that a pixel needs, in each half.
        margin_px: width of the rim of the covered area that is left out.
        settings: limits and windows of the comparison; the defaults if None.

    Raises:
        ScanError: the scan does not fit the model, or is too small to be split.
        ValueError: too little is covered by both halves.
    """
    first, second = (reconstruct(scan.subset(half)) for half in split_halves(scan.positions_px))
    return split_half(first, second, threshold=threshold, margin_px=margin_px, settings=settings)
