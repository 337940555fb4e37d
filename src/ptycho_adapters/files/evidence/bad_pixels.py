"""What detectors write where they have no pixel, found and taken out before it is read as photons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.in_place import sealed, unsealed
from ptycho_core.any_array import AnyArray
from ptycho_core.measurement.checks import pattern_shape
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.scan import MeasurementDomain, largest_value
from ptycho_core.measurement.stored import Numbers, StoredPatterns, stored


@attrs.frozen(kw_only=True, eq=False)
class Cleared:
    """Patterns and mask without what is no measurement.

    Attributes:
        patterns: (n, N, N).
        mask: (N, N) bool, True where bad; None as before where there is none.
        notes: what was found out and done.
    """

    patterns: AnyArray
    mask: AnyArray | None
    notes: Mapping[str, str] = attrs.field(factory=dict)


def clear_bad_pixels(patterns: AnyArray, mask: AnyArray | None, *, full_scale: int | None = None) -> Cleared:
    """Mark pixels that hold the largest number of their type in every frame, and clear what is no count under the mask.

    Detectors mark gaps with the largest unsigned number, with -1 or with NaN. Only values under the mask are changed,
    to 0: what stands elsewhere is left for validation to refuse.

    Args:
        patterns: as the file has them; changed where they lie.
        mask: (N, N) bool, True where bad, if the file has one.
        full_scale: the largest unsigned number of the file's type, where the patterns have been widened from it.

    Returns:
        Both; arrays that are no patterns are passed on.
    """
    known = pattern_shape(patterns)
    if known is None or patterns.dtype.kind not in "iuf" or not patterns.size:
        return Cleared(patterns=patterns, mask=mask)
    notes: dict[str, str] = {}
    frame = (known[1], known[1])
    own_scale = 2 ** (8 * patterns.dtype.itemsize) - 1 if patterns.dtype.kind == "u" else None
    marker = own_scale if full_scale is None else full_scale
    values = cast("npt.NDArray[np.float64]", patterns)
    if marker is not None:
        lowest = np.full(frame, own_scale or marker, dtype=patterns.dtype)
        for some in frame_slices(values):
            lowest = np.minimum(lowest, values[some].min(axis=0))
        dead = np.asarray(lowest == marker)
        if dead.any() and not dead.all():
            notes["mask_evidence"] = f"{int(dead.sum())} pixels hold {marker} in every frame"
            mask = dead if mask is None or mask.shape != frame else dead | mask.astype(np.bool_)
    if mask is None or mask.shape != frame or mask.dtype != np.bool_ or not mask.any():
        return Cleared(patterns=patterns, mask=mask, notes=notes)
    cleared, n_cleared = clear_under_mask(values, mask, marker)
    if n_cleared:
        notes["cleared_bad_pixels"] = f"{n_cleared} values under the mask that are no counts were set to 0"
    return Cleared(patterns=cleared, mask=mask, notes=notes)


def clear_under_mask(patterns: AnyArray, mask: AnyArray, marker: int | None) -> tuple[AnyArray, int]:
    """Set to 0 what is no count under the mask; give the stack, the same one where it can be, and how many.

    Args:
        patterns: (n, N, N); changed where they lie.
        mask: (N, N) bool, True where bad.
        marker: a number that stands for none, if there is one.
    """
    left = stored(patterns)
    if left is not None:
        return _cleared_when_read(left, mask, marker)
    values = cast("npt.NDArray[np.float64]", patterns)
    n_cleared = 0
    for some in frame_slices(values):
        under = values[some][:, mask]
        wrong = _no_counts(under, marker)
        if wrong.any():
            values = values if n_cleared else unsealed(values)
            values[some][:, mask] = np.where(wrong, under.dtype.type(0), under)
            n_cleared += int(wrong.sum())
    return (sealed(values) if n_cleared else values), n_cleared


def _no_counts(values: npt.NDArray[np.float64], marker: int | None) -> npt.NDArray[np.bool_]:
    wrong = ~((values >= 0) & (values <= largest_value(MeasurementDomain.COUNTS)))
    if marker is not None:
        wrong |= values == marker
    return wrong


def _cleared_when_read(patterns: StoredPatterns, mask: AnyArray, marker: int | None) -> tuple[AnyArray, int]:
    """Clear patterns that stay in their file whenever they are read; they are gone through once to count."""
    stack, n_cleared = patterns.as_array(), 0
    for some in frame_slices(stack):
        n_cleared += int(_no_counts(cast("npt.NDArray[np.float64]", stack[some])[:, mask], marker).sum())
    if not n_cleared:
        return stack, 0

    def cleared(frames: AnyArray, _: Numbers) -> AnyArray:
        values = cast("npt.NDArray[np.float64]", frames)
        under = values[:, mask]
        values[:, mask] = np.where(_no_counts(under, marker), under.dtype.type(0), under)
        return values

    return patterns.changed(cleared).as_array(), n_cleared
