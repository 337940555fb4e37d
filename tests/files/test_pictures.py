"""Pictures: they exist, say what they show, and do not hide what they leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from matplotlib.image import imread

from ptycho_adapters.files.images import pictures
from ptycho_core.results.uncertainty import Uncertainty

if TYPE_CHECKING:
    from pathlib import Path


def _object() -> tuple[pictures.Complex, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    y, x = np.mgrid[:60, :80] / 10.0
    coverage = np.zeros((60, 80), dtype=np.float32)
    coverage[10:50, 15:70] = 3.0
    return ((1.0 - 0.2 * np.sin(x) ** 2) * np.exp(0.5j * np.sin(y))).astype(np.complex64), coverage


@pytest.mark.parametrize("write", [pictures.write_amplitude_png, pictures.write_phase_png])
def test_a_picture_is_a_png_with_contrast(write: object, tmp_path: Path) -> None:
    """The file is a readable PNG that shows more than one colour."""
    array, coverage = _object()
    assert callable(write)

    write(array, coverage, tmp_path / "a.png", origin_px=(-3.0, 7.0))

    image = imread(tmp_path / "a.png")
    assert image.shape[2] == 4
    assert image[..., :3].std() > 0.05


def test_nothing_is_left_beside_the_picture(tmp_path: Path) -> None:
    """Pictures are written atomically."""
    array, coverage = _object()

    pictures.write_phase_png(array, coverage, tmp_path / "a.png")

    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_was_not_measured_does_not_set_the_scale(tmp_path: Path) -> None:
    """Wild values outside the coverage give the same picture as calm ones."""
    array, coverage = _object()
    wild = np.where(coverage > 0, array, 1e6j)

    pictures.write_amplitude_png(array, coverage, tmp_path / "calm.png")
    pictures.write_amplitude_png(wild, coverage, tmp_path / "wild.png")

    assert np.array_equal(imread(tmp_path / "calm.png"), imread(tmp_path / "wild.png"))


def test_the_global_phase_is_not_shown(tmp_path: Path) -> None:
    """Objects that differ by a constant phase factor give the same picture up to rounding."""
    array, coverage = _object()

    pictures.write_phase_png(array, coverage, tmp_path / "one.png")
    pictures.write_phase_png(array * np.exp(2.5j), coverage, tmp_path / "other.png")

    difference = np.abs(imread(tmp_path / "one.png") - imread(tmp_path / "other.png"))
    assert np.mean(difference > 0.02) < 1e-3


@pytest.mark.parametrize("array", [np.ones((9, 7), dtype=np.complex64), np.zeros((9, 7), dtype=np.complex64)])
def test_flat_objects_and_empty_coverage_have_a_picture_too(array: pictures.Complex, tmp_path: Path) -> None:
    """An object without contrast, and one that was never measured, are no reason to fail."""
    for name, coverage in (("full", np.ones((9, 7))), ("empty", np.zeros((9, 7)))):
        pictures.write_amplitude_png(array, coverage, tmp_path / f"a_{name}.png")
        pictures.write_phase_png(array, coverage, tmp_path / f"p_{name}.png")

    assert len(list(tmp_path.iterdir())) == 4


def test_every_probe_mode_gets_a_row(tmp_path: Path) -> None:
    """Two modes make a picture about twice as high as one."""
    y, x = np.mgrid[-16:16, -16:16] / 8.0
    mode = np.exp(-(x**2) - y**2 + 1j * x)

    pictures.write_probe_png(mode[None], tmp_path / "one.png")
    pictures.write_probe_png(np.stack([mode, 0.3 * mode * x]), tmp_path / "two.png")

    one, two = imread(tmp_path / "one.png").shape, imread(tmp_path / "two.png").shape
    assert one[1] == two[1]
    assert 1.9 < two[0] / one[0] < 2.1


def test_a_comparison_shows_both(tmp_path: Path) -> None:
    """Reconstruction and reference stand side by side on one scale, so equal arrays give equal halves."""
    array, coverage = _object()

    pictures.write_comparison_png(array, array, coverage > 0, tmp_path / "c.png", figures={"phase correlation": 1.0})

    image = imread(tmp_path / "c.png")
    left, right = np.split(image[:, : image.shape[1] // 2 * 2], 2, axis=1)
    assert image[..., :3].std() > 0.05
    assert np.mean(np.abs(left - right) > 0.1) < 0.05


def test_error_bars_are_three_pages_of_a_tiff(tmp_path: Path) -> None:
    """In float32, infinite where nothing was measured."""
    pages = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    pages[:2, 0] = np.inf
    phase, amplitude, share = pages
    known = Uncertainty(phase_std_rad=phase, amplitude_std=amplitude, prior_share=share)

    pictures.write_uncertainty_tiff(known, tmp_path / "u.tif")

    np.testing.assert_array_equal(tifffile.imread(tmp_path / "u.tif"), pages)


def test_a_tiff_keeps_every_bit(tmp_path: Path) -> None:
    """Complex numbers come back from a TIFF exactly."""
    array, _ = _object()

    pictures.write_complex_tiff(array, tmp_path / "o.tiff")

    back = tifffile.imread(tmp_path / "o.tiff")
    assert back.dtype == np.complex64
    assert np.array_equal(back, array)
