"""A scan whose detector is seen from another side, or with more of its pixels masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError
from ptycho_core.frozen import read_only
from ptycho_core.measurement.preparation.settings import Flip
from ptycho_core.measurement.stored import stored

if TYPE_CHECKING:
    from ptycho_core.any_array import AnyArray
    from ptycho_core.measurement.scan import Scan

VIEW = "detector_view"
"""Key of a scan's extra metadata that says how its patterns were turned."""


@attrs.frozen(kw_only=True, eq=False)
class DetectorView:
    """What the file does not say about its detector.

    Attributes:
        bad: (N, N) bool, pixels that are bad beside those of the file, in its own order; None for no others.
        flip: axes of the patterns that run the other way.
        transpose: exchange rows and columns of the patterns, after the flip.
    """

    bad: npt.NDArray[np.bool_] | None = None
    flip: Flip = Flip.NONE
    transpose: bool = False


def seen(scan: Scan, view: DetectorView) -> Scan:
    """Give a scan as its detector is meant. Positions and probe stay; zero frequency stays at N // 2.

    Args:
        scan: as it was read.
        view: what is to be done; nothing gives the scan itself.

    Raises:
        ScanError: a mask of another size; a turn of patterns that are mapped from a file and may not fit into memory.
    """
    bad = scan.bad_pixels
    if view.bad is not None:
        if view.bad.shape != (scan.N, scan.N):
            expected = f"({scan.N}, {scan.N}), as the patterns"
            raise ScanError("mask", [Problem(path="mask", expected=expected, found=str(view.bad.shape))])
        bad = view.bad if bad is None else bad | view.bad
        scan = attrs.evolve(scan, bad_pixels=bad)
    if view.flip is Flip.NONE and not view.transpose:
        return scan
    left = stored(scan.patterns)
    if scan.memory_mapped and left is None:
        fix = "turn them once with ptycho prepare --flip or --transpose, and map what it writes"
        problem = Problem(path="patterns", expected="patterns in memory to turn", found="a map of a file", fix=fix)
        raise ScanError("detector view", [problem])
    words = f"flipped: {view.flip}" + ("; rows and columns exchanged" if view.transpose else "")
    return attrs.evolve(
        scan,
        patterns=_turned(scan.patterns, view)
        if left is None
        else left.changed(lambda frames, _: _turned(frames, view)).as_array(),
        bad_pixels=None if bad is None else _turned(bad[np.newaxis], view)[0],
        metadata=attrs.evolve(scan.metadata, extra={**scan.metadata.extra, VIEW: words}),
    )


def _turned(frames: AnyArray, view: DetectorView) -> AnyArray:
    """Flip about pixel N // 2, which stays where it is; of an even side the first row has no partner but itself."""
    axes = {Flip.NONE: (), Flip.ROWS: (1,), Flip.COLUMNS: (2,), Flip.BOTH: (1, 2)}[view.flip]
    flipped = np.flip(frames, axes)
    if frames.shape[1] % 2 == 0:
        flipped = np.roll(flipped, 1, axes)
    return read_only(np.ascontiguousarray(flipped.swapaxes(1, 2) if view.transpose else flipped))
