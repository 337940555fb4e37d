"""From patches to one object: a weighted partition of unity on a canvas taken from the positions."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.physics.canvas import CanvasFrame, canvas_frame
from ptycho_core.physics.optics import accumulate_patches

__all__ = ["CanvasFrame", "Stitched", "canvas_frame", "stitch"]


@attrs.frozen(kw_only=True, eq=False)
class Stitched:
    """An object put together from patches.

    Attributes:
        object: complex128, (H, W); 1 + 0j where no patch reaches.
        coverage: float64, (H, W); the accumulated weight.
        covered: bool, (H, W); where the coverage suffices for a value.
        origin_px: (y, x) of pixel [0, 0], in the coordinates of the positions.
    """

    object: npt.NDArray[np.complex128]
    coverage: npt.NDArray[np.float64]
    covered: npt.NDArray[np.bool_]
    origin_px: tuple[int, int]


def stitch(
    patches: npt.NDArray[np.complexfloating],
    positions_px: npt.NDArray[np.floating],
    *,
    weight: npt.NDArray[np.floating],
    eps_rel: float = 1e-6,
    frame: CanvasFrame | None = None,
) -> Stitched:
    """Average overlapping patches with a weight: accumulate(w·patch) / accumulate(w).

    Accumulation is the adjoint of the bilinear extraction, so patches cut from an object give it back where they cover
    it: exactly for starts on whole pixels, exactly for a constant object, and, at sub-pixel starts, smoothed by the
    bilinear kernel (a linear object comes back exactly wherever the weight is even).

    Args:
        patches: (n, N, N), complex.
        positions_px: (n, 2), (y, x) of the patch centres.
        weight: (N, N), finite, not negative, somewhere positive: the trust in each patch pixel, such as Σ_modes|P|²,
            times a window if the rim of the patches is not to be used.
        eps_rel: coverage at or below `eps_rel` times its maximum counts as uncovered.
        frame: the canvas; by default the smallest one that holds every patch.

    Raises:
        ValueError: a weight of another shape, or negative, or zero everywhere, or not finite.
        ScanError: positions that are unfit, or patches outside a given frame.
    """
    trust = np.asarray(weight, dtype=np.float64)
    if trust.shape != patches.shape[1:]:
        raise ValueError(f"weight: expected the shape {patches.shape[1:]} of a patch, found {trust.shape}")
    if not (np.isfinite(trust).all() and (trust >= 0).all() and (trust > 0).any()):
        raise ValueError("weight: expected finite, non-negative numbers, at least one above zero")
    canvas = canvas_frame(positions_px, patches.shape[-1]) if frame is None else frame
    weights: npt.NDArray[np.float64] = np.broadcast_to(trust, patches.shape)
    coverage = accumulate_patches(weights, positions_px, canvas)
    total = accumulate_patches(patches * trust, positions_px, canvas)
    covered = coverage > eps_rel * coverage.max()
    object_ = np.divide(total, coverage, out=np.ones_like(total), where=covered)
    return Stitched(object=object_, coverage=coverage, covered=covered, origin_px=canvas.origin_px)
