"""Canvases and scans far larger than a picture are drawn from means: the page stays small, and right."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from ptycho_adapters.plotting.coarse import MOST_DRAWN_PX, coarse, extent_of_blocks
from ptycho_adapters.plotting.complex_colours import draw_complex
from ptycho_adapters.plotting.curves import draw_position_map
from ptycho_adapters.plotting.panels import amplitude_panel, draw, extent


def test_blocks_are_means_of_what_is_shown() -> None:
    """Also at the rim, where the last blocks reach beyond the image, and for complex numbers."""
    rng = np.random.default_rng(1)
    shape = (2 * MOST_DRAWN_PX + 3, 7)
    values = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    shown = rng.random(shape) < 0.5
    shown[:3, :3] = False

    means, known, side = coarse(values, shown)

    assert side == 3
    assert means.shape == known.shape == (-(-shape[0] // 3), 3)
    assert not known[0, 0]
    assert means[0, 0] == 0.0
    some = shown[3:6, 6:]
    assert means[1, 2] == pytest.approx(values[3:6, 6:][some].mean(), rel=1e-5)
    assert extent_of_blocks(extent(shown, (10.0, 20.0)), means.shape, 3) == (19.5, 28.5, 9.5 + 3 * means.shape[0], 9.5)


def test_small_images_are_drawn_as_they_are() -> None:
    """To the last bit."""
    values, shown = np.arange(12.0).reshape(3, 4), np.ones((3, 4), dtype=bool)

    same, known, side = coarse(values, shown)

    assert same is values
    assert known is shown
    assert side == 1


@pytest.mark.parametrize("kind", ["panel", "complex"])
def test_a_canvas_larger_than_a_picture_is_drawn_in_blocks(kind: str) -> None:
    """The axes end where the canvas does."""
    object_ = np.ones((9, MOST_DRAWN_PX + 1), dtype=np.complex64)
    covered = np.ones(object_.shape, dtype=bool)
    figure = Figure()
    axes = figure.subplots()
    if kind == "panel":
        draw(figure, axes, amplitude_panel(object_, covered, "Amplitude", (5.0, 3.0)))
    else:
        draw_complex(axes, object_, covered, title="Complex", brightest=1.0, origin_px=(5.0, 3.0))

    drawn = axes.images[0].get_array()

    assert drawn is not None
    assert drawn.shape[:2] == (5, (MOST_DRAWN_PX + 2) // 2)
    assert axes.get_xlim() == (2.5, MOST_DRAWN_PX + 3.5)
    assert axes.get_ylim() == (13.5, 4.5)


def test_very_many_positions_become_a_map_of_means() -> None:
    """A dot for each would be a page of hundreds of megabytes; y grows downwards as for dots."""
    side = 160
    positions = np.indices((side, side)).reshape(2, -1).T.astype(np.float64)
    figure = Figure()
    axes = figure.subplots()

    draw_position_map(figure, axes, positions, positions[:, 0], title="Residual", unit="R-factor")

    (image,) = axes.images
    means = image.get_array()
    assert not axes.collections
    assert means is not None
    assert means.size < len(positions) / 8
    assert means[0].max() < means[-1].min()
    assert float(means.mean()) == pytest.approx(positions[:, 0].mean(), rel=0.02)
    low, high = sorted(axes.get_ylim())
    assert axes.get_ylim() == (high, low)
    assert (low, high) == (-0.5, side - 0.5)
