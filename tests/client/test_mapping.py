"""Metres, object pixels and canvases between the client and us."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sample import KnownBackend, dtypes, known_object
from ptycho_adapters.ptychodus.mapping import (
    on_canvas,
    positions_yx,
    require_one_layer,
    scan_of_arrays,
    smallest_canvas,
    with_room,
)
from ptycho_core.errors import ScanError
from ptycho_core.physics.canvas import canvas_frame
from ptychodus_sample import sample_scan


@given(st.integers(40, 70), st.integers(40, 70), st.floats(-6.0, 6.0), st.floats(-6.0, 6.0))
def test_every_covered_pixel_keeps_its_coordinate(height: int, width: int, dy: float, dx: float) -> None:
    """The client's array has its own shape, what was measured at its coordinate, and 1 everywhere else."""
    scan = sample_scan(with_object=False)
    moved = scan_of_arrays(scan.patterns, scan.positions_px + np.array([dy, dx]), scan.probe)
    result = KnownBackend().reconstruct(None, moved)

    canvas = on_canvas(result, (height, width))

    truth = known_object((0, 0), (height, width))
    measured = np.zeros((height, width), dtype=bool)
    rows, columns = np.nonzero(result.covered)
    rows, columns = rows + result.origin_px[0], columns + result.origin_px[1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    measured[rows[inside], columns[inside]] = True
    assert canvas.shape == (height, width)
    np.testing.assert_array_equal(canvas, np.where(measured, truth, 1.0))


def test_nothing_in_reach_leaves_the_canvas_transparent() -> None:
    """A scan far from the client's object gives an object of ones, and no error."""
    scan = sample_scan(with_object=False)
    far = scan_of_arrays(scan.patterns, scan.positions_px + 500.0, scan.probe)

    assert (on_canvas(KnownBackend().reconstruct(None, far), (30, 20)) == 1.0).all()


@given(st.integers(20, 90), st.integers(20, 90), st.integers(0, 1000))
def test_the_smallest_canvas_is_the_clients_own_for_a_whole_scan(height: int, width: int, seed: int) -> None:
    """Where the client put its object about the middle of the scan, the positions alone give its shape."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0.0, 1.0, (9, 2))
    positions -= (positions.min(axis=0) + positions.max(axis=0)) / 2

    assert smallest_canvas(positions + (np.array([height, width]) - 1) / 2) == (height, width)


@pytest.mark.parametrize("dtype", dtypes())
def test_counts_of_any_number_format_are_the_same_scan(dtype: str) -> None:
    """A detector's number format changes no count."""
    scan = sample_scan(with_object=False)

    made = scan_of_arrays(scan.patterns.astype(np.int64).clip(0, 255).astype(dtype), scan.positions_px, scan.probe)

    np.testing.assert_array_equal(made.counts(), scan.counts().clip(0, 255))


@pytest.mark.parametrize("probe", ["one mode", "two modes"])
def test_a_probe_comes_with_or_without_an_axis_for_its_modes(probe: str) -> None:
    """(N, N) is one mode; the flux stays in the probe."""
    scan = sample_scan(with_object=False)
    given_probe = scan.probe[0] if probe == "one mode" else scan.probe

    made = scan_of_arrays(scan.patterns, scan.positions_px, given_probe)

    assert made.probe.ndim == 3
    np.testing.assert_array_equal(made.probe, np.atleast_3d(given_probe).reshape(made.probe.shape))


def test_rectangular_patterns_are_refused_with_both_shapes() -> None:
    """The message names the shape of the patterns and that of the probe."""
    with pytest.raises(ScanError, match=r"\(3, 16, 12\).*\(1, 16, 16\)"):
        scan_of_arrays(np.ones((3, 16, 12)), np.zeros((3, 2)), np.ones((1, 16, 16), dtype=complex))


def test_an_object_of_several_layers_is_refused() -> None:
    """Early, and by number."""
    with pytest.raises(ScanError, match="3 layers"):
        require_one_layer(3)


def test_columns_become_rows_first() -> None:
    """The client's x and y are our (y, x)."""
    np.testing.assert_array_equal(positions_yx([1.0, 2.0], [3.0, 4.0]), [[1.0, 3.0], [2.0, 4.0]])


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
def test_a_known_object_has_room_for_patches_between_its_pixels(dy: float, dx: float) -> None:
    """The client's object ends with the outermost patches; a rim repeats its edge, and what was where stays there."""
    scan = sample_scan(with_object=False)
    frame = canvas_frame(scan.positions_px, scan.N)
    tight = attrs.evolve(
        scan,
        object=known_object(frame.origin_px, frame.shape),
        positions_px=scan.positions_px - frame.origin_px + np.array([dy, dx]),
    )

    roomy = with_room(tight)

    assert roomy.object is not None
    assert tight.object is not None
    within = canvas_frame(roomy.positions_px, roomy.N)
    assert min(within.origin_px) >= 0
    assert (np.add(within.origin_px, within.shape) <= roomy.object.shape).all()
    moved = round(float((roomy.positions_px - tight.positions_px).max()))
    height, width = tight.object.shape
    np.testing.assert_array_equal(roomy.object[moved : moved + height, moved : moved + width], tight.object)
    np.testing.assert_allclose(roomy.positions_px, tight.positions_px + moved)


def test_an_object_with_room_is_left_as_it_is() -> None:
    """As is a scan without one."""
    scan = sample_scan(with_object=False)
    frame = canvas_frame(scan.positions_px, scan.N)
    wide = attrs.evolve(
        scan,
        object=known_object(frame.origin_px, (frame.shape[0] + 2, frame.shape[1] + 2)),
        positions_px=scan.positions_px - frame.origin_px,
    )
    assert with_room(scan) is scan
    assert with_room(wide) is wide
