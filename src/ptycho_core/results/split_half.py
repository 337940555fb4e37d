"""Resolution without a truth: two reconstructions from halves of the data agree as far as the data carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.results.metrics import Comparison, ComparisonSettings, compare, evaluation_mask

if TYPE_CHECKING:
    from ptycho_core.results.reconstruction import Reconstruction


def split_half(
    first: Reconstruction,
    second: Reconstruction,
    *,
    threshold: float = 0.1,
    margin_px: int = 0,
    settings: ComparisonSettings | None = None,
) -> Comparison:
    """Compare reconstructions of the two halves of a scan, which `splitting.split_halves` gives.

    The ring correlations of the result are those of half the data each: a lower bound for the whole. What both halves
    were given, such as a trained network's habits, a probe or a flat guess, agrees too and passes for resolution, so
    read them beside the R-factor.

    Args:
        first: of one half; it is judged where both halves have coverage.
        second: of the other.
        threshold: fraction of the largest coverage that a pixel needs, in each half.
        margin_px: width of the rim of the covered area that is left out.
        settings: limits and windows of the comparison; the defaults if None.

    Raises:
        ValueError: the halves do not meet, or not on an area large enough to judge.
    """
    mask = evaluation_mask(first.coverage, threshold=threshold, margin_px=margin_px)
    other = evaluation_mask(second.coverage, threshold=threshold, margin_px=margin_px)
    shared = np.zeros_like(mask)
    top, left = (max(a, b) for a, b in zip(first.origin_px, second.origin_px, strict=True))
    height, width = (
        max(0, min(a + n, b + m) - start)
        for a, n, b, m, start in zip(
            first.origin_px, mask.shape, second.origin_px, other.shape, (top, left), strict=True
        )
    )
    here, there = (
        (slice(top - y, top - y + height), slice(left - x, left - x + width))
        for y, x in (first.origin_px, second.origin_px)
    )
    shared[here] = mask[here] & other[there]
    return compare(
        first.object,
        second.object,
        mask=shared,
        origin_px=first.origin_px,
        reference_origin_px=second.origin_px,
        settings=settings,
    )
