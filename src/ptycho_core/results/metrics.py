"""How close a reconstruction is to a reference, once everything that the data leave free is removed and recorded."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.results.alignment import Aligned, ComparisonSettings, Overlap, align, overlap
from ptycho_core.results.ring_correlation import RingCorrelation, frc

__all__ = ["Comparison", "ComparisonSettings", "RingCorrelation", "compare", "evaluation_mask", "frc", "r_factor"]

Complex = npt.NDArray[np.complex128]
Real = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """Agreement of a reconstruction with a reference over a mask, and the gauge that was removed.

    With r counted from `origin_px`, reconstruction(r) ≈ exp(i·(phase_rad + ramp·r)) / scale · reference(r − shift_px).

    Attributes:
        phase_correlation: Pearson correlation of the phases; 0 if either is flat. Both phases are taken relative to the
            mean reference, each after removal of its own best plane wave, so neither wraps for phases within ±π of the
            mean and a flat reconstruction gains nothing from a ramp.
        amplitude_correlation: Pearson correlation of the amplitudes; 0 if either is flat.
        phase_mae_rad: mean |phase difference|, wrapped into [0, π].
        amplitude_mae: mean |amplitude difference|, in units of the reference.
        phase_ssim: structural similarity of the phases, Gaussian window, over the windows that lie inside the mask.
        amplitude_ssim: likewise of the amplitudes.
        psnr_db: 20·log10(psnr_peak / rms complex difference); infinite for a perfect match.
        psnr_peak: the largest reference amplitude on the mask.
        phase_psnr_db: 20·log10(phase_range_rad / rms phase difference, wrapped into [-π, π]); infinite likewise.
        amplitude_psnr_db: 20·log10(amplitude_range / rms amplitude difference); infinite likewise.
        phase_range_rad: peak of the phase PSNR and data range of the phase SSIM: 0.5th to 99.5th percentile of the
            reference; 1 if flat.
        amplitude_range: likewise of the amplitude.
        ring: complex Fourier ring correlation on the largest square inside the mask.
        phase_ring: the same of the phases alone.
        shift_px: (y, x) by which the reconstruction's content was displaced against the reference.
        ramp_rad_per_px: (y, x) phase ramp of the reconstruction relative to the reference.
        scale: factor applied to the reconstruction's amplitude; 0 for an empty one.
        phase_rad: constant phase of the reconstruction relative to the reference, at `origin_px`.
        n_pixels: pixels compared.
        n_outside: pixels of the mask that the reference does not reach.
        origin_px: (y, x) of pixel [0, 0] of the three images below.
        reconstruction: complex128 (h, w), gauge removed.
        reference: complex128 (h, w), moved onto the reconstruction, its own plane wave removed.
        mask: bool (h, w), the pixels compared.
        settings: the choices made.
    """

    phase_correlation: float
    amplitude_correlation: float
    phase_mae_rad: float
    amplitude_mae: float
    phase_ssim: float
    amplitude_ssim: float
    psnr_db: float
    psnr_peak: float
    phase_psnr_db: float
    amplitude_psnr_db: float
    phase_range_rad: float
    amplitude_range: float
    ring: RingCorrelation
    phase_ring: RingCorrelation
    shift_px: tuple[float, float]
    ramp_rad_per_px: tuple[float, float]
    scale: float
    phase_rad: float
    n_pixels: int
    n_outside: int
    origin_px: tuple[int, int]
    reconstruction: Complex
    reference: Complex
    mask: Mask
    settings: ComparisonSettings

    @property
    def at_limit(self) -> tuple[str, ...]:
        """Settings at whose limit a search ended: what lies beyond it may fit better."""
        found = {
            "max_shift_px": (self.shift_px, 1.0 / self.settings.upsample),
            "max_ramp_rad_per_px": (self.ramp_rad_per_px, 0.01 * self.settings.max_ramp_rad_per_px),
        }
        limits = {name: getattr(self.settings, name) for name in found}
        return tuple(
            name
            for name, (values, step) in found.items()
            if limits[name] > 0 and max(map(abs, values)) > limits[name] - step
        )

    def figures(self) -> dict[str, float]:
        """The scalar results by name, for reports; frequencies in cycles per pixel."""
        return {
            "phase_correlation": self.phase_correlation,
            "amplitude_correlation": self.amplitude_correlation,
            "phase_mae_rad": self.phase_mae_rad,
            "amplitude_mae": self.amplitude_mae,
            "phase_ssim": self.phase_ssim,
            "amplitude_ssim": self.amplitude_ssim,
            "psnr_db": self.psnr_db,
            "psnr_peak": self.psnr_peak,
            "phase_psnr_db": self.phase_psnr_db,
            "amplitude_psnr_db": self.amplitude_psnr_db,
            "phase_range_rad": self.phase_range_rad,
            "amplitude_range": self.amplitude_range,
            "frc50_per_px": self.ring.frc50_per_px,
            "half_bit_per_px": self.ring.half_bit_per_px,
            "phase_frc50_per_px": self.phase_ring.frc50_per_px,
            "phase_half_bit_per_px": self.phase_ring.half_bit_per_px,
            "shift_y_px": self.shift_px[0],
            "shift_x_px": self.shift_px[1],
            "ramp_y_rad_per_px": self.ramp_rad_per_px[0],
            "ramp_x_rad_per_px": self.ramp_rad_per_px[1],
            "scale": self.scale,
            "phase_rad": self.phase_rad,
            "n_pixels": float(self.n_pixels),
            "n_outside": float(self.n_outside),
        }


def compare(
    reconstruction: npt.NDArray[np.complexfloating],
    reference: npt.NDArray[np.complexfloating],
    *,
    mask: Mask | None = None,
    origin_px: tuple[int, int] = (0, 0),
    reference_origin_px: tuple[int, int] = (0, 0),
    settings: ComparisonSettings | None = None,
) -> Comparison:
    """Compare two complex objects over a mask, with shift, phase ramp, scale and constant phase free.

    Both are first laid on common pixels by their origins. Then the residual shift, the phase ramp (a complex fit,
    nothing is unwrapped) and one complex factor are fitted by least squares over the mask, removed, and recorded.

    Args:
        reconstruction: (H, W), finite.
        reference: (H', W'), finite, not zero everywhere on the mask.
        mask: (H, W), the reconstruction's pixels to be judged; all of them if None. See `evaluation_mask`.
        origin_px: (y, x) of `reconstruction[0, 0]`.
        reference_origin_px: (y, x) of `reference[0, 0]`, in the same coordinates.
        settings: limits and windows; the defaults if None.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, no common pixel on the mask, an empty
            reference, or a mask without room for one SSIM window or an 8 px square.
    """
    chosen = ComparisonSettings() if settings is None else settings
    judged = np.ones(reconstruction.shape, dtype=bool) if mask is None else mask
    if judged.shape != reconstruction.shape:
        raise ValueError(f"mask: expected the shape {reconstruction.shape} of the reconstruction, found {judged.shape}")
    offset = (reference_origin_px[0] - origin_px[0], reference_origin_px[1] - origin_px[1])
    shared = overlap(reconstruction, reference, judged, offset, margin_px=int(chosen.max_shift_px) + 16)
    aligned = align(shared, chosen)
    return _figures(aligned, shared, origin_px, chosen)


def evaluation_mask(coverage: npt.NDArray[np.floating], *, threshold: float = 0.1, margin_px: int = 0) -> Mask:
    """Pixels that deserve judgement: coverage above a fraction of its maximum, less a margin.

    Args:
        coverage: (H, W), accumulated weight of the stitching, not negative.
        threshold: fraction of the maximum, in [0, 1).
        margin_px: width of the rim taken off; the border of the array counts as uncovered.

    Raises:
        ValueError: a threshold or margin out of range.
    """
    if not 0 <= threshold < 1 or margin_px < 0:
        raise ValueError(f"expected a threshold in [0, 1) and a margin >= 0 px, found {threshold} and {margin_px}")
    covered: Mask = coverage > threshold * coverage.max()
    return _eroded(covered, margin_px)


def r_factor(expected: npt.NDArray[np.floating], counts: npt.NDArray[np.floating]) -> float:
    """Crystallographers' R: Σ|√λ − √n| / Σ√n, over all pixels; 0 for a perfect fit.

    Raises:
        ValueError: shapes differ, a negative value, or no photons at all.
    """
    if expected.shape != counts.shape:
        raise ValueError(f"counts: expected the shape {expected.shape} of the expected counts, found {counts.shape}")
    if not ((expected >= 0).all() and (counts >= 0).all() and (counts > 0).any()):
        raise ValueError("expected non-negative rates and counts, and at least one photon")
    measured = np.sqrt(counts, dtype=np.float64)
    return float(np.abs(np.sqrt(expected, dtype=np.float64) - measured).sum() / measured.sum())


def _figures(aligned: Aligned, shared: Overlap, origin_px: tuple[int, int], settings: ComparisonSettings) -> Comparison:
    """All figures over the aligned mask."""
    mask, rec, ref = aligned.mask, aligned.reconstruction, aligned.reference
    centre = np.exp(-1j * np.angle(ref[mask].mean()))
    # Adding zero turns negative zeros into zeros: an empty pixel has phase 0, not ±π.
    phase, phase_true = np.angle(rec * centre + 0), np.angle(ref * centre + 0)
    amplitude, amplitude_true = np.abs(rec), np.abs(ref)
    phase_range, amplitude_range = _contrast(phase_true[mask]), _contrast(amplitude_true[mask])
    radius = settings.ssim_radius_px
    square = _largest_square(mask, at_least=max(8, 2 * radius + 1))
    gap = np.angle(np.exp(1j * (phase - phase_true)))[mask]
    peak = float(amplitude_true[mask].max())
    return Comparison(
        phase_correlation=_pearson(phase[mask], phase_true[mask], tolerance=1e-8),
        amplitude_correlation=_pearson(amplitude[mask], amplitude_true[mask], tolerance=1e-8 * peak),
        phase_mae_rad=float(np.mean(np.abs(gap))),
        amplitude_mae=float(np.mean(np.abs(amplitude - amplitude_true)[mask])),
        phase_ssim=_ssim(phase, phase_true, mask, data_range=phase_range, sigma_px=settings.ssim_sigma_px),
        amplitude_ssim=_ssim(
            amplitude, amplitude_true, mask, data_range=amplitude_range, sigma_px=settings.ssim_sigma_px
        ),
        psnr_db=_psnr_db(np.abs(rec - ref)[mask], peak),
        psnr_peak=peak,
        phase_psnr_db=_psnr_db(gap, phase_range),
        amplitude_psnr_db=_psnr_db((amplitude - amplitude_true)[mask], amplitude_range),
        phase_range_rad=phase_range,
        amplitude_range=amplitude_range,
        ring=frc(rec[square], ref[square], smooth_rings=settings.smooth_rings),
        phase_ring=frc(phase[square], phase_true[square], smooth_rings=settings.smooth_rings),
        shift_px=aligned.shift_px,
        ramp_rad_per_px=aligned.ramp_rad_per_px,
        scale=aligned.scale,
        phase_rad=aligned.phase_rad,
        n_pixels=int(mask.sum()),
        n_outside=shared.n_outside,
        origin_px=(origin_px[0] + shared.origin_px[0], origin_px[1] + shared.origin_px[1]),
        reconstruction=rec,
        reference=ref,
        mask=mask,
        settings=settings,
    )


def _pearson(a: Real, b: Real, *, tolerance: float) -> float:
    """Pearson correlation; 0 when either varies by no more than the tolerance (a flat image agrees with nothing)."""
    a, b = a - a.mean(), b - b.mean()
    spread_a, spread_b = np.sqrt(np.mean(a**2)), np.sqrt(np.mean(b**2))
    if spread_a <= tolerance or spread_b <= tolerance:
        return 0.0
    return float(np.mean(a * b) / (spread_a * spread_b))


def _psnr_db(error: Real, peak: float) -> float:
    """Peak over the root mean square error, in decibels; infinite where there is no error."""
    power = float(np.mean(error**2))
    return float(10 * np.log10(peak**2 / power)) if power > 0 else float("inf")


def _contrast(values: Real) -> float:
    """From the 0.5th to the 99.5th percentile; 1 for values without contrast."""
    low, high = np.percentile(values, [0.5, 99.5])
    return float(high - low) if high - low > 1e-8 * max(abs(low), abs(high)) else 1.0


def _ssim(image: Real, truth: Real, mask: Mask, *, data_range: float, sigma_px: float) -> float:
    """Mean structural similarity of the Gaussian windows inside the mask (Wang et al., IEEE TIP 13, 600 (2004))."""
    from skimage.metrics import structural_similarity  # noqa: PLC0415 - keeps imports quick

    similarity: Real = structural_similarity(
        truth,
        image,
        data_range=data_range,
        gaussian_weights=True,
        sigma=sigma_px,
        use_sample_covariance=False,
        full=True,
    )[1]
    # skimage cuts the window off there too.
    return float(similarity[_eroded(mask, int(3.5 * sigma_px + 0.5))].mean())


def _eroded(mask: Mask, radius: int) -> Mask:
    """The mask less a rim; the border of the array counts as outside."""
    from scipy.ndimage import binary_erosion  # noqa: PLC0415 - keeps imports quick

    side = 2 * radius + 1
    inner: Mask = binary_erosion(mask, structure=np.ones((side, side), dtype=bool))
    return inner


def _largest_square(mask: Mask, *, at_least: int) -> tuple[slice, slice]:
    """The largest square (of odd side) of mask pixels.

    Raises:
        ValueError: no square of `at_least` pixels a side fits.
    """
    from scipy.ndimage import distance_transform_cdt  # noqa: PLC0415 - keeps imports quick

    distance = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    row, column = np.unravel_index(np.argmax(distance), mask.shape)
    reach = int(distance[row, column]) - 1
    if 2 * reach + 1 < at_least:
        raise ValueError(f"mask: expected room for a square of {at_least} px, found one of {2 * reach + 1} px")
    return slice(int(row) - reach, int(row) + reach + 1), slice(int(column) - reach, int(column) + reach + 1)
