"""Where the direct beam is believed to be, for patterns whose beam is known to be somewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ptycho_adapters.files.evidence.centre import BeamPlace, find_beam

N = 32


def light_at(y: float, x: float, *, width: float = 3.0, size: int = N) -> npt.NDArray[np.float64]:
    """Light around a pixel of a frame whose edges are joined."""
    axes = [np.abs((np.arange(size) - centre + size / 2) % size - size / 2) for centre in (y, x)]
    light: npt.NDArray[np.float64] = np.exp(-(axes[0][:, None] ** 2 + axes[1][None, :] ** 2) / (2 * width**2))
    return 100 * light[np.newaxis]


@pytest.mark.parametrize("size", [16, 17, 32, 33])
@pytest.mark.parametrize("width", [0.5, 3.0])
def test_middle_and_corner_are_told_apart(size: int, width: float) -> None:
    """Even and odd frames, narrow and broad light; shifting by half a frame changes the verdict."""
    middle = light_at(size // 2, size // 2, width=width, size=size)

    assert find_beam(middle, None).place is BeamPlace.MIDDLE
    assert find_beam(np.fft.ifftshift(middle, axes=(1, 2)), None).place is BeamPlace.CORNER


@pytest.mark.parametrize("stack", [np.ones((1, N, N)), np.zeros((1, N, N)), light_at(N / 4, N / 4)])
def test_light_elsewhere_is_unclear(stack: npt.NDArray[np.float64]) -> None:
    """Even light, no light and light between the two places give no verdict."""
    assert find_beam(stack, None).place is BeamPlace.UNCLEAR


def test_a_ring_about_the_middle_is_in_the_middle() -> None:
    """The far field of a zone plate with a stop is dark in its middle."""
    y, x = np.indices((N, N)) - N // 2
    radius = np.hypot(y, x)
    ring = ((radius > 3) & (radius < 8)).astype(np.float64)[np.newaxis]

    assert find_beam(ring, None).place is BeamPlace.MIDDLE


def test_bad_pixels_give_no_evidence() -> None:
    """A hot corner under the mask does not draw the beam there."""
    stack = light_at(N // 2, N // 2)
    stack[0, 0, 0] = 1e9
    bad = np.zeros((N, N), dtype=np.bool_)
    bad[0, 0] = True

    assert find_beam(stack, None).place is BeamPlace.CORNER
    assert find_beam(stack, bad).place is BeamPlace.MIDDLE


def test_the_distances_are_those_of_the_light() -> None:
    """One lit pixel is as far from middle and corner as it lies, around the edges."""
    stack = np.zeros((1, N, N))
    stack[0, N - 3, 4] = 1.0

    found = find_beam(stack, None)

    assert found.corner_px == pytest.approx(5.0)
    assert found.middle_px == pytest.approx(np.hypot(13, 12))
