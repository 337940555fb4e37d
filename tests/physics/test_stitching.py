"""Stitching against direct sums and objects that are known."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_core.physics.canvas import CanvasFrame, canvas_frame
from ptycho_core.physics.optics import extract_patches
from ptycho_core.physics.stitching import stitch


def test_canvas_holds_every_footprint_and_no_more() -> None:
    """The frame runs from the first whole start to one pixel behind the last patch."""
    frame = canvas_frame(np.array([[10.0, -2.0], [13.25, 7.5]]), 4)

    assert frame == CanvasFrame(origin_px=(8, -4), shape=(8, 15))


def test_whole_pixel_patches_give_the_object_back() -> None:
    """Patches cut at whole pixels stitch to the object wherever one of them lies, whatever the weight."""
    rng = np.random.default_rng(1)
    object_ = rng.normal(size=(30, 40)) + 1j * rng.normal(size=(30, 40))
    positions = np.stack([rng.integers(2, 28, 50), rng.integers(2, 38, 50)], axis=1).astype(float)

    result = stitch(extract_patches(object_, positions, 5), positions, weight=rng.uniform(0.1, 1, (5, 5)))

    rows, columns = np.nonzero(result.covered)
    top, left = result.origin_px
    np.testing.assert_allclose(result.object[rows, columns], object_[rows + top, columns + left], atol=1e-12)
    assert result.covered.mean() > 0.5


def test_uncovered_pixels_are_transparent() -> None:
    """Between two distant patches the object is 1 and the coverage 0."""
    positions = np.array([[5.0, 5.0], [5.0, 30.0]])

    result = stitch(np.full((2, 5, 5), 3j), positions, weight=np.ones((5, 5)))

    assert result.object[2, 12] == 1.0
    assert not result.covered[2, 12]
    assert result.coverage[2, 12] == 0.0
    assert np.isfinite(result.object).all()


def test_overlap_is_a_weighted_mean() -> None:
    """Two patches on the same spot with uneven weights average by those weights."""
    positions = np.array([[1.0, 1.0], [1.0, 2.0]])
    weight = np.array([[1.0, 1.0, 3.0]] * 3)

    result = stitch(np.stack([np.full((3, 3), 1 + 0j), np.full((3, 3), 5 + 0j)]), positions, weight=weight)

    np.testing.assert_allclose(result.object[0, :4], [1, (1 + 5) / 2, (3 * 1 + 5) / 4, 5])
    np.testing.assert_allclose(result.coverage[0, :4], [1, 2, 4, 3])


def test_ramp_survives_sub_pixel_positions_under_an_even_weight() -> None:
    """A linear object at fractional positions comes back exactly inside the patch."""
    rows, columns = np.mgrid[:20, :20]
    object_ = (0.3 * rows - 0.7 * columns + 2 + 1j * rows).astype(complex)
    positions = np.array([[9.3, 9.8]])

    result = stitch(extract_patches(object_, positions, 8), positions, weight=np.ones((8, 8)))

    top, left = result.origin_px
    np.testing.assert_allclose(result.object[1:-1, 1:-1], object_[top + 1 : top + 8, left + 1 : left + 8], atol=1e-12)


def test_faint_coverage_counts_as_none() -> None:
    """Where the weight falls below the relative threshold the object is 1, not a ratio of two tiny numbers."""
    weight = np.array([[1e-9, 1.0, 1.0]] * 3)

    result = stitch(np.full((1, 3, 3), 7 + 0j), np.array([[1.0, 1.0]]), weight=weight)

    np.testing.assert_array_equal(result.object[0, :3], [1, 7, 7])
    np.testing.assert_array_equal(result.covered[0, :3], [False, True, True])


def test_given_frame_is_kept() -> None:
    """A caller's frame decides origin and shape."""
    frame = CanvasFrame(origin_px=(-2, 1), shape=(12, 9))

    result = stitch(np.ones((1, 3, 3), dtype=complex), np.array([[3.0, 4.0]]), weight=np.ones((3, 3)), frame=frame)

    assert (result.origin_px, result.object.shape) == ((-2, 1), (12, 9))
    assert result.covered[4:7, 2:5].all()
    assert result.covered.sum() == 9


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((3, 4)), "shape"),
        (-np.ones((3, 3)), "non-negative"),
        (np.zeros((3, 3)), "above zero"),
        (np.full((3, 3), np.nan), "finite"),
    ],
)
def test_unfit_weights_are_refused(weight: np.typing.NDArray[np.float64], message: str) -> None:
    """A weight of another shape, negative, zero or not finite is an error."""
    with pytest.raises(ValueError, match=message):
        stitch(np.ones((1, 3, 3), dtype=complex), np.array([[1.0, 1.0]]), weight=weight)
