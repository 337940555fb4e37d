"""Reference forward model of far-field ptychography, in float64 and complex128.

Every faster implementation is measured against these functions. With F = fftshift · fft2(norm="ortho") · ifftshift
over the last two axes (zero frequency at index n // 2), an object O under incoherent probe modes P_m gives, per frame,

    counts = Σ_m |F(P_m · O_patch)|² + background .

F is unitary, so Σ|P|² over pixels and modes is the number of photons per frame of a transparent object.
Geometry of patches: `ptycho_core.physics.canvas`.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt

from ptycho_core.physics.canvas import CanvasFrame, footprints, require_inside

__all__ = [
    "accumulate_patches",
    "amplitude_mae",
    "expected_counts",
    "extract_patches",
    "far_field",
    "inverse_far_field",
    "poisson_deviance",
]

_FRAME_AXES = (-2, -1)


def far_field(exit_wave: npt.NDArray[np.inexact]) -> npt.NDArray[np.complex128]:
    """Propagate exit waves (..., N, N) to the detector; zero frequency at N // 2, energy kept (Parseval)."""
    centred = np.fft.ifftshift(np.asarray(exit_wave, dtype=np.complex128), axes=_FRAME_AXES)
    return np.fft.fftshift(np.fft.fft2(centred, norm="ortho"), axes=_FRAME_AXES)


def inverse_far_field(detector_wave: npt.NDArray[np.inexact]) -> npt.NDArray[np.complex128]:
    """Undo `far_field`; being unitary, this is also its adjoint."""
    cornered = np.fft.ifftshift(np.asarray(detector_wave, dtype=np.complex128), axes=_FRAME_AXES)
    return np.fft.fftshift(np.fft.ifft2(cornered, norm="ortho"), axes=_FRAME_AXES)


def expected_counts(
    patches: npt.NDArray[np.inexact],
    probe: npt.NDArray[np.inexact],
    *,
    background: float | npt.NDArray[np.floating] = 0.0,
) -> npt.NDArray[np.float64]:
    """Mean photon counts behind object patches; the modes add in intensity.

    Args:
        patches: complex transmission, (..., N, N).
        probe: illumination at the sample, (modes, N, N), in square roots of photons.
        background: counts per pixel, >= 0; a number or an array that broadcasts to (..., N, N).

    Returns:
        Photon counts, (..., N, N).

    Raises:
        ValueError: the probe is not (modes, N, N) with the patches' N.
    """
    if probe.ndim != 3 or probe.shape[1:] != patches.shape[-2:]:
        raise ValueError(
            f"probe: expected shape (modes, {patches.shape[-2]}, {patches.shape[-1]}), found {probe.shape}"
        )
    counts = np.zeros(patches.shape, dtype=np.float64)
    for mode in probe:
        counts += np.abs(far_field(patches * mode)) ** 2
    return counts + background


@overload
def extract_patches(
    object_: npt.NDArray[np.complexfloating],
    positions_px: npt.NDArray[np.floating],
    size: int,
    *,
    origin_px: tuple[int, int] = ...,
) -> npt.NDArray[np.complex128]: ...
@overload
def extract_patches(
    object_: npt.NDArray[np.floating],
    positions_px: npt.NDArray[np.floating],
    size: int,
    *,
    origin_px: tuple[int, int] = ...,
) -> npt.NDArray[np.float64]: ...
def extract_patches(
    object_: npt.NDArray[np.inexact],
    positions_px: npt.NDArray[np.floating],
    size: int,
    *,
    origin_px: tuple[int, int] = (0, 0),
) -> npt.NDArray[np.inexact]:
    """Cut patches out of an object, bilinear at sub-pixel positions.

    Args:
        object_: real or complex, (H, W).
        positions_px: (n, 2), (y, x) of the patch centres.
        size: pixels along a side of a patch.
        origin_px: (y, x) of `object_[0, 0]` in the coordinates of the positions.

    Returns:
        (n, size, size), float64 or complex128.

    Raises:
        ScanError: a patch reaches outside the object; nothing is cut off or filled in.
    """
    frame = CanvasFrame(origin_px=origin_px, shape=(object_.shape[0], object_.shape[1]))
    prints = footprints(positions_px, size)
    require_inside(prints, frame)
    # One more row and column, read with weight zero only: a patch that starts on a whole pixel may end at the border.
    padded = np.pad(object_.astype(np.result_type(object_, np.float64)), ((0, 1), (0, 1)))
    patches = np.empty((len(prints.whole_px), size, size), dtype=padded.dtype)
    starts = prints.whole_px - np.array(origin_px)
    for patch, (top, left), (down, right) in zip(patches, starts, prints.fraction, strict=True):
        tile = padded[top : top + size + 1, left : left + size + 1]
        rows = (1 - down) * tile[:-1] + down * tile[1:]
        patch[:] = (1 - right) * rows[:, :-1] + right * rows[:, 1:]
    return patches


@overload
def accumulate_patches(
    patches: npt.NDArray[np.complexfloating], positions_px: npt.NDArray[np.floating], frame: CanvasFrame
) -> npt.NDArray[np.complex128]: ...
@overload
def accumulate_patches(
    patches: npt.NDArray[np.floating], positions_px: npt.NDArray[np.floating], frame: CanvasFrame
) -> npt.NDArray[np.float64]: ...
def accumulate_patches(
    patches: npt.NDArray[np.inexact], positions_px: npt.NDArray[np.floating], frame: CanvasFrame
) -> npt.NDArray[np.inexact]:
    """Add patches onto a canvas: the exact adjoint of `extract_patches`.

    Args:
        patches: real or complex, (n, size, size).
        positions_px: (n, 2), (y, x) of the patch centres.
        frame: the canvas; see `ptycho_core.physics.canvas.canvas_frame`.

    Returns:
        The sums, (H, W), float64 or complex128.

    Raises:
        ScanError: a patch reaches outside the frame.
        ValueError: patches are not square, or not as many as positions.
    """
    size = patches.shape[-1]
    if patches.shape != (len(positions_px), size, size):
        raise ValueError(f"patches: expected shape ({len(positions_px)}, size, size), found {patches.shape}")
    prints = footprints(positions_px, size)
    require_inside(prints, frame)
    canvas = np.zeros((frame.shape[0] + 1, frame.shape[1] + 1), dtype=np.result_type(patches, np.float64))
    starts = prints.whole_px - np.array(frame.origin_px)
    for patch, (top, left), (down, right) in zip(patches, starts, prints.fraction, strict=True):
        tile = canvas[top : top + size + 1, left : left + size + 1]
        for rows, part in ((slice(None, -1), (1 - down) * patch), (slice(1, None), down * patch)):
            tile[rows, :-1] += (1 - right) * part
            tile[rows, 1:] += right * part
    return canvas[:-1, :-1]


def poisson_deviance(
    expected: npt.NDArray[np.floating],
    counts: npt.NDArray[np.floating],
    *,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Mean over the good pixels of λ − n + n·log(n/λ), which is λ where n = 0.

    This is half the deviance of the statistics textbooks: the negative log-likelihood above that of a perfect fit, in
    nats. It is 0 for a perfect fit and about 1/2 at the noise floor of bright pixels.

    Args:
        expected: λ, (..., N, N), above zero on every good pixel.
        counts: n, (..., N, N), not negative.
        bad_pixels: (N, N) or (..., N, N); True where the detector is not to be believed.

    Raises:
        ValueError: shapes differ, no good pixel is left, λ <= 0 or n < 0 on a good pixel.
    """
    rate, seen = _good(expected, counts, bad_pixels)
    if not (rate > 0).all():
        raise ValueError("expected: a count rate must be above zero on every good pixel; add a background")
    ratio = np.divide(seen, rate, out=np.ones_like(seen), where=seen > 0)
    return float(np.mean(rate - seen + seen * np.log(ratio)))


def amplitude_mae(
    expected: npt.NDArray[np.floating],
    counts: npt.NDArray[np.floating],
    *,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Mean over the good pixels of |√λ − √n|.

    Raises:
        ValueError: shapes differ, no good pixel is left, or a negative value on a good pixel.
    """
    rate, seen = _good(expected, counts, bad_pixels)
    if not (rate >= 0).all():
        raise ValueError("expected: a count rate must not be negative")
    return float(np.mean(np.abs(np.sqrt(rate) - np.sqrt(seen))))


def _good(
    expected: npt.NDArray[np.floating], counts: npt.NDArray[np.floating], bad_pixels: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The values on good pixels, checked and flat."""
    if expected.shape != counts.shape:
        raise ValueError(f"counts: expected the shape {expected.shape} of the expected counts, found {counts.shape}")
    good = np.ones(counts.shape, dtype=bool) if bad_pixels is None else np.broadcast_to(~bad_pixels, counts.shape)
    rate, seen = expected[good].astype(np.float64), counts[good].astype(np.float64)
    if seen.size == 0:
        raise ValueError("bad_pixels: no good pixel is left")
    if not (seen >= 0).all():
        raise ValueError("counts: a photon count must not be negative or NaN")
    return rate, seen
