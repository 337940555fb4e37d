"""Where a refinement starts: at a result, or at a flat object under the scan's own probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.physics.canvas import canvas_frame
from ptycho_core.results.product import Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_RIM_PX = 2
_ROOM_PX = 6  # for positions that are going to be moved


@attrs.frozen(kw_only=True, eq=False)
class Start:
    """What a refinement starts from, in our frame.

    Attributes:
        object: (H, W) complex64; holds the footprint of every patch with a rim.
        origin_px: (y, x) of pixel [0, 0].
        probe: (modes, N, N) complex64, in square roots of photons.
        positions_px: (n, 2) float64 (y, x), one for each pattern of the scan.
        cold: whether nothing was known about the object.
    """

    object: npt.NDArray[np.complex64]
    origin_px: tuple[int, int]
    probe: npt.NDArray[np.complex64]
    positions_px: npt.NDArray[np.float64]
    cold: bool


def cold_start(scan: Scan) -> Start:
    """Start from an object of ones and what the scan itself says."""
    nothing = np.ones((1, 1), dtype=np.complex64)
    centre = np.rint(scan.positions_px.mean(axis=0)).astype(int)
    made = Start(
        object=nothing,
        origin_px=(int(centre[0]), int(centre[1])),
        probe=scan.probe,
        positions_px=scan.positions_px,
        cold=True,
    )
    return _with_room(made, scan.N, 1.0)


def start_from(result: Product | Reconstruction, scan: Scan) -> Start:
    """Start from a result of the same scan: its object, its probe, and its positions where it has them.

    Raises:
        ScanError: the result does not fit the scan.
    """
    numbers = _numbers(result)
    raise_if_any(ScanError, "this result and this scan do not belong together", _misfits(result, numbers, scan))
    positions = scan.positions_px.copy()
    positions[numbers] = result.positions_px
    top, left = result.origin_px
    made = Start(
        object=result.object,
        origin_px=(int(top), int(left)),
        probe=result.probe,
        positions_px=positions,
        cold=False,
    )
    return _with_room(made, scan.N, result.scale)


def _numbers(result: Product | Reconstruction) -> npt.NDArray[np.int64]:
    return result.position_indexes if isinstance(result, Product) else result.pattern_indices


def _misfits(result: Product | Reconstruction, numbers: npt.NDArray[np.int64], scan: Scan) -> Iterator[Problem]:
    if result.probe.shape[1:] != (scan.N, scan.N):
        found = f"{result.probe.shape[1]} px"
        yield Problem(path="probe", expected=f"{scan.N} px, as the patterns of the scan", found=found)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < scan.n_patterns:
        expected = f"patterns 0 to {scan.n_patterns - 1}"
        yield Problem(path="position_indexes", expected=expected, found=f"{numbers.min()} to {numbers.max()}")
    if any(edge != int(edge) for edge in result.origin_px):
        yield Problem(path="origin_px", expected="whole pixels", found=repr(result.origin_px))


def _with_room(start: Start, size: int, outside: float) -> Start:
    """Widen the canvas so that every patch has its rim; nothing is cut off."""
    frame = canvas_frame(start.positions_px, size)
    room = _RIM_PX + _ROOM_PX
    first = np.minimum(np.array(frame.origin_px) - room, start.origin_px)
    last = np.maximum(np.array(frame.origin_px) + frame.shape + room, np.array(start.origin_px) + start.object.shape)
    before, after = np.array(start.origin_px) - first, last - np.array(start.origin_px) - start.object.shape
    pads = list(zip(before.tolist(), after.tolist(), strict=True))
    wide = np.pad(start.object, pads, constant_values=np.complex64(outside))
    return attrs.evolve(start, object=wide, origin_px=(int(first[0]), int(first[1])))
