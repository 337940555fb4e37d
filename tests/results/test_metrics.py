"""Figures of merit: known gauges are found, known failures score as failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import scipy.stats
import skimage.metrics

from ptycho_core.results.gauge import Registration, find_ramp, plane_wave
from ptycho_core.results.metrics import ComparisonSettings, compare, evaluation_mask, frc, r_factor

if TYPE_CHECKING:
    from collections.abc import Callable

Complex = npt.NDArray[np.complex128]
Mask = npt.NDArray[np.bool_]


def _texture(rng: np.random.Generator, size: int, sigma_px: float = 1.5) -> npt.NDArray[np.float64]:
    """Smooth noise, zero mean, unit spread."""
    noise = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma_px, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float64)


@pytest.fixture(name="truth")
def _truth() -> Complex:
    rng = np.random.default_rng(11)
    result: Complex = (0.85 + 0.04 * _texture(rng, 96)) * np.exp(0.4j * _texture(rng, 96))
    return result


@pytest.fixture(name="mask")
def _mask() -> Mask:
    mask = np.zeros((96, 96), dtype=bool)
    mask[14:80, 16:84] = True
    return mask


def test_identical_objects_score_perfectly(truth: Complex) -> None:
    """An object compared with itself is right in every figure, and the gauge is the identity."""
    result = compare(truth, truth)

    figures = result.figures()
    for name in ("phase_correlation", "amplitude_correlation", "phase_ssim", "amplitude_ssim", "scale"):
        assert figures[name] == pytest.approx(1.0), name
    for name in ("phase_mae_rad", "amplitude_mae", "phase_rad", "ramp_y_rad_per_px", "ramp_x_rad_per_px"):
        assert figures[name] == pytest.approx(0.0, abs=1e-9), name
    assert figures["frc50_per_px"] == figures["phase_frc50_per_px"] == 0.5
    assert result.shift_px == (0.0, 0.0)
    assert result.n_pixels == 96 * 96


def test_gauge_is_recovered_and_free(truth: Complex, mask: Mask) -> None:
    """Shift, ramp, scale and constant phase put on an object are found again and cost nothing."""
    ramp, shift = (0.03, -0.045), (2.35, -3.6)
    moved = np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(truth), shift))
    distorted = 0.25 * np.exp(0.8j) * plane_wave((96, 96), ramp) * moved

    result = compare(distorted, truth, mask=mask)

    np.testing.assert_allclose(result.shift_px, shift, atol=1e-9)
    np.testing.assert_allclose(result.ramp_rad_per_px, ramp, atol=1e-5)
    assert result.scale == pytest.approx(4.0, rel=1e-3)
    assert result.phase_rad == pytest.approx(0.8, abs=2e-3)
    assert result.phase_correlation > 0.9999
    assert result.amplitude_correlation > 0.999
    assert result.ring.frc50_per_px == 0.5


def test_origins_bring_objects_to_common_pixels(truth: Complex) -> None:
    """A reconstruction on its own canvas is compared with the part of the reference that it shows."""
    cut = truth[20:70, 30:90]

    result = compare(cut, truth, origin_px=(25, 27), reference_origin_px=(5, -3))

    assert result.shift_px == (0.0, 0.0)
    assert result.phase_correlation == pytest.approx(1.0)
    assert result.origin_px == (25, 27)
    assert (result.n_pixels, result.n_outside) == (3000, 0)


def test_pixels_beyond_the_reference_are_counted(truth: Complex) -> None:
    """Mask pixels that the reference does not reach are left out and reported."""
    result = compare(truth, truth[:80])

    assert (result.n_pixels, result.n_outside) == (80 * 96, 16 * 96)


_FAILURES: dict[str, Callable[[Complex], Complex]] = {
    "flat": lambda truth: np.full_like(truth, 0.3 - 0.2j),
    "flat with a ramp": lambda truth: plane_wave((96, 96), (0.05, -0.02)) + 0 * truth,
    "empty": np.zeros_like,
    "mirrored": lambda truth: truth[:, ::-1],
    "upside down": lambda truth: truth[::-1],
    "transposed": lambda truth: truth.T,
    "conjugated": np.conj,
    "noise": lambda truth: np.random.default_rng(0).normal(size=(2, *truth.shape)).T @ np.array([1, 1j]),
}


@pytest.mark.parametrize("failure", list(_FAILURES))
def test_failures_score_as_failures(failure: str, truth: Complex, mask: Mask) -> None:
    """No gauge freedom lifts a wrong reconstruction: no correlation, nothing resolved, large errors."""
    result = compare(_FAILURES[failure](truth), truth, mask=mask)

    figures = result.figures()
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["phase_correlation"] < 0.2
    assert figures["phase_ssim"] < 0.2
    assert figures["phase_mae_rad"] > 0.2
    assert figures["frc50_per_px"] < 0.1
    assert figures["phase_frc50_per_px"] < 0.1
    assert figures["half_bit_per_px"] < 0.1
    assert figures["phase_half_bit_per_px"] < 0.1
    assert figures["psnr_db"] < 12
    assert figures["phase_psnr_db"] < 16


@pytest.mark.parametrize("failure", ["flat", "flat with a ramp", "empty"])
def test_featureless_objects_correlate_with_nothing(failure: str, truth: Complex, mask: Mask) -> None:
    """A flat object scores exactly 0.0, not NaN and not the tilt of the reference."""
    tilted = truth * plane_wave((96, 96), (0.01, 0.02))

    result = compare(_FAILURES[failure](truth), tilted, mask=mask)

    assert result.phase_correlation == 0.0
    assert result.amplitude_correlation == 0.0
    assert not result.ring.correlation.any()


@pytest.mark.parametrize("ramp", [(0.0, 0.4), (-0.78, 0.5), (0.95, -0.95)])
def test_a_steep_ramp_is_a_gauge_too(ramp: tuple[float, float], truth: Complex, mask: Mask) -> None:
    """A beam off the middle of the detector by a seventh of it is a ramp on the object, which costs nothing."""
    for tilted, wanted in ((truth * plane_wave((96, 96), ramp), ramp), (truth, (-ramp[0], -ramp[1]))):
        reference = truth if tilted is not truth else truth * plane_wave((96, 96), ramp)

        result = compare(tilted, reference, mask=mask)

        assert result.phase_correlation == pytest.approx(1.0, abs=1e-6)
        assert result.shift_px == (0.0, 0.0)
        np.testing.assert_allclose(result.ramp_rad_per_px, wanted, atol=1e-6)
        assert not result.at_limit


@pytest.mark.parametrize(
    ("moved", "tilt", "settings", "said"),
    [
        (6, 0.0, ComparisonSettings(max_shift_px=2.0), {"max_shift_px"}),
        (0, 0.5, ComparisonSettings(max_ramp_rad_per_px=0.2), {"max_ramp_rad_per_px"}),
        (0, 0.5, ComparisonSettings(), set()),
        (6, 0.0, ComparisonSettings(max_shift_px=0.0, max_ramp_rad_per_px=0.0), set()),
    ],
)
def test_a_search_that_ended_at_its_limit_is_told(
    moved: int, tilt: float, settings: ComparisonSettings, said: set[str], truth: Complex, mask: Mask
) -> None:
    """What was found there need not be the best; where nothing is looked for, there is no limit."""
    object_ = np.roll(truth, moved, axis=0) * plane_wave((96, 96), (tilt, 0.0))

    result = compare(object_, truth, mask=mask, settings=settings)

    assert set(result.at_limit) == said


def test_ramp_is_left_alone_on_request(truth: Complex) -> None:
    """With a ramp limit of zero, a tilted reconstruction scores worse and no ramp is reported."""
    tilted = truth * plane_wave((96, 96), (0.04, 0.0))

    result = compare(tilted, truth, settings=ComparisonSettings(max_ramp_rad_per_px=0.0))

    assert result.ramp_rad_per_px == (0.0, 0.0)
    assert result.phase_correlation < 0.5


def test_shift_is_limited(truth: Complex, mask: Mask) -> None:
    """A displacement beyond the stated limit is not made good."""
    moved = np.roll(truth, 6, axis=0)

    assert compare(moved, truth, mask=mask, settings=ComparisonSettings(max_shift_px=2.0)).phase_correlation < 0.3
    assert compare(moved, truth, mask=mask, settings=ComparisonSettings(max_shift_px=6.0)).shift_px == (6.0, 0.0)


def test_figures_agree_with_independent_libraries(truth: Complex) -> None:
    """Correlations, errors, PSNR and SSIM are those of scipy and skimage on the aligned images."""
    rng = np.random.default_rng(12)
    noisy = truth * (1 + 0.02 * _texture(rng, 96)) * np.exp(0.15j * _texture(rng, 96))

    result = compare(noisy, truth, settings=ComparisonSettings(max_shift_px=0))

    rec, ref = result.reconstruction, result.reference
    centre = np.exp(-1j * np.angle(ref.mean()))
    phases, amplitudes = (np.angle(rec * centre), np.angle(ref * centre)), (np.abs(rec), np.abs(ref))
    assert result.phase_correlation == pytest.approx(scipy.stats.pearsonr(*(p.ravel() for p in phases)).statistic)
    assert result.amplitude_correlation == pytest.approx(
        scipy.stats.pearsonr(*(a.ravel() for a in amplitudes)).statistic
    )
    assert result.phase_mae_rad == pytest.approx(np.abs(phases[0] - phases[1]).mean())
    assert result.amplitude_mae == pytest.approx(np.abs(amplitudes[0] - amplitudes[1]).mean())
    error = np.sqrt(np.mean(np.abs(rec - ref) ** 2))
    assert result.psnr_db == pytest.approx(20 * np.log10(np.abs(ref).max() / error))
    assert result.phase_psnr_db == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(phases[1], phases[0], data_range=result.phase_range_rad)
    )
    assert result.amplitude_psnr_db == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(amplitudes[1], amplitudes[0], data_range=result.amplitude_range)
    )
    ssim = skimage.metrics.structural_similarity(
        phases[1], phases[0], gaussian_weights=True, use_sample_covariance=False, data_range=result.phase_range_rad
    )
    assert result.phase_ssim == pytest.approx(ssim)


def test_complex_factor_is_the_least_squares_one(truth: Complex) -> None:
    """The residual is orthogonal to the reconstruction: no other factor fits better."""
    rng = np.random.default_rng(13)
    noisy = truth * np.exp(0.5j * _texture(rng, 96)) * 3

    result = compare(noisy, truth)

    residual = (result.reconstruction - result.reference)[result.mask]
    assert abs(np.vdot(result.reconstruction[result.mask], residual)) < 1e-9 * result.n_pixels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.ones((4, 4), dtype=bool)}, "mask: expected the shape"),
        ({"mask": np.zeros((96, 96), dtype=bool)}, "no pixel of the mask"),
        ({"origin_px": (500, 0)}, "no pixel of the mask"),
        ({"mask": np.eye(96, dtype=bool)}, "room for a square"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(change: dict[str, Mask], message: str, truth: Complex) -> None:
    """Masks that do not fit, objects that do not meet and masks too thin to judge are errors."""
    with pytest.raises(ValueError, match=message):
        compare(truth, truth, **change)  # type: ignore[arg-type]


def test_unfit_objects_are_refused(truth: Complex) -> None:
    """NaN anywhere in the compared area, or a reference of zeros, is an error."""
    broken = truth.copy()
    broken[40, 40] = np.nan

    with pytest.raises(ValueError, match="NaN"):
        compare(broken, truth)
    with pytest.raises(ValueError, match="zeros"):
        compare(truth, 0 * truth)


def test_pure_phase_reference_has_no_amplitude_to_correlate(truth: Complex) -> None:
    """With a reference of constant amplitude the amplitude correlation is 0 and its data range 1."""
    result = compare(truth, np.exp(1j * np.angle(truth)))

    assert result.amplitude_correlation == 0.0
    assert result.amplitude_range == 1.0
    assert result.phase_correlation > 0.99


def test_registration_moves_content_like_scipy() -> None:
    """A reflected object shifts by a fraction just as scipy's Fourier shift of its reflection does."""
    rng = np.random.default_rng(14)
    object_ = _texture(rng, 16) + 0j
    mirrored = np.pad(object_, (0, 16), mode="symmetric")

    expected = np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(mirrored), (1.25, -2.5)))[:16, :16]

    np.testing.assert_allclose(Registration(object_).shifted((1.25, -2.5)), expected, atol=1e-12)


def test_ramp_is_found_to_rounding() -> None:
    """Newton's refinement finds a ramp between Fourier bins, under an uneven weight."""
    weight = np.random.default_rng(15).uniform(0.5, 1, (40, 30))

    ramp = find_ramp(weight * plane_wave((40, 30), (0.1234, -0.0567)), max_rad_per_px=0.2)

    np.testing.assert_allclose(ramp, (0.1234, -0.0567), atol=1e-12)


def test_ring_correlation_of_shared_low_frequencies() -> None:
    """Images that share only what lies below a frequency have their FRC50 there, within a ring or two."""
    rng = np.random.default_rng(16)
    q = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    shared, one, two = (np.fft.fft2(rng.normal(size=(128, 128))) for _ in range(3))
    a, b = (np.fft.ifft2(np.where(q < 0.2, shared, own)) for own in (one, two))

    result = frc(a, b)

    assert result.frc50_per_px == pytest.approx(0.2, abs=2 / 128)
    assert result.half_bit_per_px == pytest.approx(0.2, abs=3 / 128)
    assert result.frequency_per_px[-1] == 0.5


def test_ring_correlation_agrees_with_a_plain_loop() -> None:
    """Each ring is the sum over its pixels, one by one."""
    rng = np.random.default_rng(17)
    a, b = rng.normal(size=(2, 12, 12)) + 1j * rng.normal(size=(2, 12, 12))
    line = np.sin(np.pi * (np.arange(12) + 0.5) / 12) ** 2
    window = line[:, None] * line[None, :]
    spectra = [np.fft.fftshift(np.fft.fft2((f - (f * window).sum() / window.sum()) * window)) for f in (a, b)]
    top, first, second = np.zeros(7), np.zeros(7), np.zeros(7)
    for y in range(12):
        for x in range(12):
            ring = round(float(np.hypot(y - 6, x - 6)))
            if ring <= 6:
                top[ring] += (spectra[0][y, x] * np.conj(spectra[1][y, x])).real
                first[ring] += abs(spectra[0][y, x]) ** 2
                second[ring] += abs(spectra[1][y, x]) ** 2

    np.testing.assert_allclose(frc(a, b).correlation, (top / np.sqrt(first * second))[1:], atol=1e-12)


def test_ring_correlation_refuses_unfit_images() -> None:
    """Images that are not square, not of one size, tiny or not finite are errors."""
    good = np.random.default_rng(18).normal(size=(16, 16))

    for bad in (good[:, :12], good[:4, :4], np.full((16, 16), np.nan)):
        with pytest.raises(ValueError, match="frc"):
            frc(good, bad)
    with pytest.raises(ValueError, match="odd"):
        frc(good, good, smooth_rings=2)


def test_evaluation_mask_cuts_threshold_and_margin() -> None:
    """Only pixels above the threshold and farther than the margin from any other stay."""
    coverage = np.zeros((12, 12))
    coverage[2:10, 3:11] = 1.0
    coverage[0, 0] = 20.0

    assert evaluation_mask(coverage, threshold=0.04).sum() == 65
    mask = evaluation_mask(coverage, threshold=0.04, margin_px=2)
    assert mask[4:8, 5:9].all()
    assert mask.sum() == 16
    with pytest.raises(ValueError, match="threshold"):
        evaluation_mask(coverage, threshold=1.0)


def test_r_factor_by_hand() -> None:
    """(|2 - 3| + |4 - 1|) / (3 + 1) = 1; dark data have none."""
    assert r_factor(np.array([4.0, 16.0]), np.array([9.0, 1.0])) == 1.0
    with pytest.raises(ValueError, match="at least one photon"):
        r_factor(np.ones(2), np.zeros(2))


@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize("turn", [0.0, 1.0j])
def test_a_band_holds_the_true_correlation_as_often_as_it_says(correlation: float, turn: complex) -> None:
    """Of images with a known share in common, real or complex, about 95 % of the rings; their number is what counts."""
    rng, inside = np.random.default_rng(5), []
    for _ in range(40):
        common, one, other = (rng.normal(size=(48, 48)) + turn * rng.normal(size=(48, 48)) for _ in range(3))
        a, b = (np.sqrt(correlation) * common + np.sqrt(1.0 - correlation) * own for own in (one, other))
        low, high = frc(a.real if turn == 0 else a, b.real if turn == 0 else b).band()
        inside.append((low <= correlation) & (correlation <= high))
    assert np.mean(inside) == pytest.approx(0.955, abs=0.025)
