"""Laws of stitching: identity on what it covers, linearity, indifference to order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.physics.optics import extract_patches
from ptycho_core.physics.stitching import Stitched, stitch
from strategies_physics import Placement, placements, seeds


def _weight(case: Placement) -> npt.NDArray[np.float64]:
    return case.rng.uniform(0.2, 1.0, (case.size, case.size))


def _object(case: Placement) -> npt.NDArray[np.complex128]:
    rng = np.random.default_rng(case.seed + 1)
    noise: npt.NDArray[np.complex128] = rng.normal(size=case.shape) + 1j * rng.normal(size=case.shape)
    return noise


def _under(case: Placement, result: Stitched, object_: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """The object's pixels below the covered canvas."""
    rows, columns = np.nonzero(result.covered)
    top, left = (canvas - own for canvas, own in zip(result.origin_px, case.origin_px, strict=True))
    return object_[rows + top, columns + left]


@given(placements())
def test_patches_on_whole_pixels_give_the_object_back(case: Placement) -> None:
    """Cut and stitched at whole starts, an object is recovered wherever it is covered, for any weight."""
    centres = np.floor(case.positions_px) + (case.size - 1) / 2 % 1
    object_ = _object(case)

    patches = extract_patches(object_, centres, case.size, origin_px=case.origin_px)
    result = stitch(patches, centres, weight=_weight(case))

    np.testing.assert_allclose(result.object[result.covered], _under(case, result, object_), atol=1e-9)
    assert (result.object[~result.covered] == 1).all()


@given(placements(), st.complex_numbers(max_magnitude=10))
def test_constants_survive_any_positions(case: Placement, level: complex) -> None:
    """A constant object comes back as that constant, sub-pixel positions and uneven weights included."""
    patches = np.full((len(case.positions_px), case.size, case.size), level, dtype=complex)

    result = stitch(patches, case.positions_px, weight=_weight(case))

    np.testing.assert_allclose(result.object[result.covered], level, atol=1e-9)
    assert np.isfinite(result.object).all()


@given(placements())
def test_planes_survive_an_even_weight(case: Placement) -> None:
    """Under an even weight a plane comes back exactly on every pixel that whole patches surround."""
    rows, columns = np.arange(case.shape[0]), np.arange(case.shape[1])
    plane = (0.5 * rows[:, None] - 1j * columns[None, :]).astype(complex)

    patches = extract_patches(plane, case.positions_px[:1], case.size, origin_px=case.origin_px)
    result = stitch(patches, case.positions_px[:1], weight=np.ones((case.size, case.size)))

    inner = np.s_[1:-2, 1:-2]
    top, left = (canvas - own for canvas, own in zip(result.origin_px, case.origin_px, strict=True))
    height, width = result.object.shape
    expected = plane[top : top + height, left : left + width]
    np.testing.assert_allclose(result.object[inner], expected[inner], atol=1e-9)


@given(placements(), seeds)
def test_order_of_the_scan_is_irrelevant(case: Placement, seed: int) -> None:
    """A permutation of patches together with positions changes nothing."""
    n = len(case.positions_px)
    order = np.random.default_rng(seed).permutation(n)
    patches = case.rng.normal(size=(n, case.size, case.size)) * (1 + 1j)

    one = stitch(patches, case.positions_px, weight=_weight(case))
    other = stitch(patches[order], case.positions_px[order], weight=_weight(case))

    np.testing.assert_allclose(other.object, one.object, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(other.coverage, one.coverage, atol=1e-9)
    assert other.origin_px == one.origin_px


@given(placements(), st.complex_numbers(max_magnitude=5))
def test_stitching_is_linear_in_the_patches(case: Placement, factor: complex) -> None:
    """On covered pixels stitch(A + c·B) = stitch(A) + c·stitch(B); the weight's scale does not matter."""
    shape = (2, len(case.positions_px), case.size, case.size)
    a, b = case.rng.normal(size=shape) + 1j * case.rng.normal(size=shape)
    weight = _weight(case)

    both = stitch(a + factor * b, case.positions_px, weight=7 * weight)
    one = stitch(a, case.positions_px, weight=weight)
    other = stitch(b, case.positions_px, weight=weight)

    np.testing.assert_allclose(
        both.object[both.covered], (one.object + factor * other.object)[both.covered], rtol=1e-7, atol=1e-7
    )
