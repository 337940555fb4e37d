"""Between the client's arrays and a scan: pure, and without the client.

The client counts positions from pixel [0, 0] of its object array, `(x_m - centre) / pixel + (W - 1) / 2`. These are the
coordinates of a scan here, so that a reconstruction only has to be laid onto the client's array. The probe carries the
flux: the sum of its squares over all modes is the photons per frame. Masks are True where a pixel is bad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from ptycho_core.physics.canvas import canvas_frame

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptycho_core.results.reconstruction import Reconstruction


def scan_of_arrays(
    patterns: npt.NDArray[np.number],
    positions_px: npt.NDArray[np.floating],
    probe: npt.NDArray[np.complexfloating],
    *,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    metadata: ScanMetadata | None = None,
) -> Scan:
    """Make a scan of what the client hands over.

    Args:
        patterns: (n, N, N) photon counts of any real dtype.
        positions_px: (n, 2), (y, x) from pixel [0, 0] of the client's object.
        probe: (modes, N, N) or (N, N), with the flux in it.
        bad_pixels: (N, N), True where bad.
        metadata: name and lengths.

    Raises:
        ScanError: patterns that are not square, a probe of another size, or anything else that is no scan.
    """
    _require_square(patterns, probe)
    return Scan(
        patterns=patterns,
        domain=MeasurementDomain.COUNTS,
        positions_px=positions_px,
        probe=probe,
        bad_pixels=bad_pixels,
        metadata=metadata or ScanMetadata(),
    )


def positions_yx(y_px: npt.ArrayLike, x_px: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Put the client's two columns together, (n, 2) float64 in (y, x) order."""
    return np.stack([np.asarray(y_px, dtype=np.float64), np.asarray(x_px, dtype=np.float64)], axis=1)


def on_canvas(reconstruction: Reconstruction, shape: tuple[int, int]) -> npt.NDArray[np.complex64]:
    """Lay a reconstruction onto the client's object array.

    Args:
        reconstruction: of a scan in the client's pixels.
        shape: rows and columns of the client's object; what lies beyond them is left out.

    Returns:
        (H, W) complex64, finite; 1, transparent, where nothing was measured.
    """
    canvas = np.ones(shape, dtype=np.complex64)
    theirs, ours = zip(
        *(
            _overlap(start, given, wanted)
            for start, given, wanted in zip(reconstruction.origin_px, reconstruction.object.shape, shape, strict=True)
        ),
        strict=True,
    )
    covered, patch = reconstruction.covered[ours], reconstruction.object[ours]
    canvas[theirs] = np.where(covered, patch, canvas[theirs])
    return canvas


def smallest_canvas(positions_px: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Give the shape of a client's object of which nothing but the positions is known.

    The client makes its object so that the scan sits in the middle: `min + max = W - 1` along each axis. This does not
    hold for a part of a scan, whose object then lies elsewhere than the client takes it to be.
    """
    height, width = np.round(positions_px.min(axis=0) + positions_px.max(axis=0)).astype(int) + 1
    return int(height), int(width)


def with_room(scan: Scan) -> Scan:
    """Give every patch room in the known object of a training, by a rim of a pixel that repeats its edge.

    The client makes its object just as large as the positions ask for, so that a patch between two pixels sticks out.

    Args:
        scan: in the pixels of the client's object.

    Returns:
        The scan, moved by a pixel with its object where patches stick out; one without an object as it is.
    """
    if scan.object is None:
        return scan
    wanted = canvas_frame(scan.positions_px, scan.N)
    ends = np.add(wanted.origin_px, wanted.shape)
    if min(wanted.origin_px) >= 0 and bool((ends <= scan.object.shape).all()):
        return scan
    commanded = None if scan.commanded_positions_px is None else scan.commanded_positions_px + 1.0
    wider = np.pad(scan.object, 1, mode="edge")
    return attrs.evolve(scan, object=wider, positions_px=scan.positions_px + 1.0, commanded_positions_px=commanded)


def require_one_layer(n_layers: int) -> None:
    """Refuse an object of several layers, which no reconstruction here gives.

    Raises:
        ScanError: there is more than one.
    """
    if n_layers != 1:
        problem = Problem(
            path="product.object",
            expected="one layer",
            found=f"{n_layers} layers",
            fix="reconstruct with an object of one layer, or use a multislice algorithm",
        )
        raise ScanError("reconstruction for Ptychodus", [problem])


def _overlap(start: int, given: int, wanted: int) -> tuple[slice, slice]:
    """Give where `given` pixels from `start` on meet `wanted` ones from 0 on, counted as the latter and the former."""
    first, last = max(0, start), max(0, min(wanted, start + given), start)
    return slice(first, last), slice(first - start, last - start)


def _require_square(patterns: npt.NDArray[np.number], probe: npt.NDArray[np.complexfloating]) -> None:
    frame, own = patterns.shape[1:], probe.shape[-2:]
    if len(set(frame)) == 1 and own == frame:
        return
    problem = Problem(
        path="diffraction patterns and probe",
        expected="square patterns (n, N, N) and a probe (modes, N, N) of the same size",
        found=f"patterns {patterns.shape} and a probe {probe.shape}",
        fix="crop or pad the patterns to a square when the client loads them",
    )
    raise ScanError("scan of Ptychodus", [problem])
