"""Sub-pixel positions by moving the probe."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from ptycho_core.errors import ScanError
from ptycho_core.physics.optics import expected_counts, extract_patches
from ptycho_core.physics.probes import ProbeKind, make_probe, with_modes
from ptycho_core.physics.subpixel import scan_counts, shift_probe, split_positions


def _smooth_object(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.complex128]]:
    """A periodic object of a few low frequencies, so that a Fourier shift of it is exact."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / size)
    phase = 0.5 * np.sin(y - 2 * x)
    object_: np.ndarray[tuple[int, ...], np.dtype[np.complex128]] = (
        1.0 + 0.3 * np.sin(2 * y + x) + 0.2 * np.cos(3 * x)
    ) * np.exp(1j * phase)
    return object_


@pytest.mark.parametrize(
    ("size", "position", "whole"),
    [(8, 10.5, 10.5), (8, 10.74, 10.5), (8, 10.99, 10.5), (8, 11.0, 11.5), (7, 10.5, 11.0), (7, 10.49, 10.0)],
)
def test_the_nearest_whole_start_is_taken(size: int, position: float, whole: float) -> None:
    """Even patches are centred between pixels, odd ones on a pixel; a tie goes up."""
    found, rest = split_positions(np.array([[position, position]]), size)

    assert found.tolist() == [[whole, whole]]
    np.testing.assert_allclose(rest, position - whole, atol=1e-12)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, -0.25), (3.0, 1.0)])
def test_the_probe_moves_as_scipy_moves_it(shift: tuple[float, float]) -> None:
    """Content moves by +shift, (y, x), every mode alike."""
    probe = with_modes(make_probe(ProbeKind.APERTURE, 32, photons=1.0), 2)

    moved = shift_probe(probe, np.array(shift))

    wanted = [np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(mode), shift)) for mode in probe]
    np.testing.assert_allclose(moved, wanted, atol=1e-12)


def test_whole_positions_need_no_shift() -> None:
    """On whole pixels the counts are those of the patch under the probe as it is."""
    object_, probe = _smooth_object(40), make_probe(ProbeKind.ZONE_PLATE, 16, photons=100.0)
    positions = np.array([[8.5, 9.5], [20.5, 30.5]])

    counts = scan_counts(object_, probe, positions, background=0.5)

    wanted = expected_counts(extract_patches(object_, positions, 16), probe, background=0.5)
    np.testing.assert_allclose(counts, wanted, atol=1e-10)


def test_the_probe_moves_over_the_object_not_the_other_way() -> None:
    """Moving the position by a fraction is moving the object back by it, for a probe that fills its frame softly."""
    size = 32
    object_ = _smooth_object(size)
    probe = make_probe(ProbeKind.GAUSSIAN, size, photons=1.0)
    centre = np.array([[(size - 1) / 2, (size - 1) / 2]])
    shift = np.array([0.3, -0.4])

    moved = scan_counts(object_, probe, centre + shift)

    back = np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(object_), -shift))
    wanted = scan_counts(back, probe, centre)
    np.testing.assert_allclose(moved, wanted, atol=1e-4 * wanted.max())


def test_the_origin_moves_the_object() -> None:
    """An object whose first pixel lies elsewhere is met there."""
    object_, probe = _smooth_object(40), make_probe(ProbeKind.ZONE_PLATE, 16, photons=100.0)
    positions = np.array([[12.25, 20.75]])

    moved = scan_counts(object_, probe, positions + np.array([-30, 7]), origin_px=(-30, 7))

    np.testing.assert_allclose(moved, scan_counts(object_, probe, positions), atol=1e-10)


def test_outside_the_object_is_an_error() -> None:
    """Nothing is cut off or filled in."""
    with pytest.raises(ScanError):
        scan_counts(_smooth_object(40), np.ones((1, 16, 16), complex), np.array([[35.0, 20.0]]))
