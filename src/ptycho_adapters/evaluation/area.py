"""The area that is judged, and the judgement over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem, ScanFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_adapters.evaluation.objects import PlacedObject
    from ptycho_core.results.alignment import ComparisonSettings
    from ptycho_core.results.metrics import Comparison


@attrs.frozen(kw_only=True)
class Area:
    """Which pixels are judged.

    Attributes:
        region_px: (y0, y1, x0, x1) in the frame of the positions, ends excluded; None for all.
        margin_px: width of the rim of the covered area that is left out.
        coverage_threshold: fraction of the largest coverage that a pixel needs.
    """

    region_px: tuple[int, int, int, int] | None = None
    margin_px: int = 0
    coverage_threshold: float = 0.1


def judge(
    result: PlacedObject, reference: PlacedObject, area: Area, settings: ComparisonSettings, *, name: str
) -> Comparison:
    """Compare a result with a reference over the covered part of the result.

    Raises:
        ScanFileError: the two cannot be compared there.
    """
    from ptycho_core.results.metrics import compare  # noqa: PLC0415 - scikit-image takes a while

    try:
        return compare(
            result.object,
            reference.object,
            mask=area_mask(result, area),
            origin_px=result.origin_px,
            reference_origin_px=reference.origin_px,
            settings=settings,
        )
    except ValueError as error:
        problem = Problem(path="objects", expected="a common area with structure", found=str(error))
        raise ScanFileError(name, [problem]) from error


def area_mask(result: PlacedObject, area: Area) -> NDArray[np.bool_]:
    """Return the pixels of a result that are judged, (H, W)."""
    from ptycho_core.results.metrics import evaluation_mask  # noqa: PLC0415 - see above

    coverage = np.ones(result.object.shape) if result.coverage is None else result.coverage
    mask = evaluation_mask(coverage, threshold=area.coverage_threshold, margin_px=area.margin_px)
    if area.region_px is not None:
        y0, y1, x0, x1 = area.region_px
        y = np.arange(mask.shape[0])[:, None] + result.origin_px[0]
        x = np.arange(mask.shape[1])[None, :] + result.origin_px[1]
        mask = mask & (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    return mask
