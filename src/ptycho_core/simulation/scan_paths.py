"""Where to point the beam: scan positions (y, x) in object pixels, all of whose patches lie on the object."""

from __future__ import annotations

from enum import StrEnum

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import Problem, ScanError

Positions = npt.NDArray[np.float64]


class PathKind(StrEnum):
    """The classes of scan path."""

    RASTER = "raster"
    SPIRAL = "spiral"


@attrs.frozen(kw_only=True)
class ScanArea:
    """The rectangle of patch centres that keep a patch on the object.

    Attributes:
        low_px: smallest (y, x) of a centre.
        high_px: largest (y, x) of a centre.
    """

    low_px: tuple[float, float]
    high_px: tuple[float, float]

    def inset(self, margin_px: float) -> ScanArea:
        """The area less a rim, so that a jitter of that size stays inside.

        Raises:
            ValueError: nothing is left.
        """
        (top, left), (bottom, right) = self.low_px, self.high_px
        if 2 * margin_px > min(bottom - top, right - left):
            raise ValueError(f"margin_px: expected at most half the side of the area {self}, found {margin_px}")
        return ScanArea(low_px=(top + margin_px, left + margin_px), high_px=(bottom - margin_px, right - margin_px))


def scan_area(object_shape: tuple[int, int], size: int) -> ScanArea:
    """The centres that patches of a size may take on an object whose pixel [0, 0] lies at (0, 0).

    Raises:
        ScanError: the object is smaller than a patch.
    """
    if min(object_shape) < size:
        problem = Problem(
            path="object", expected=f"at least {size} x {size} px, the size of a patch", found=f"shape {object_shape}"
        )
        raise ScanError("scan path", [problem])
    edge = (size - 1) / 2
    return ScanArea(low_px=(edge, edge), high_px=(object_shape[0] - 1 - edge, object_shape[1] - 1 - edge))


def raster_positions(area: ScanArea, *, step_px: float) -> Positions:
    """A square grid, row by row, centred in the area, (n, 2).

    Raises:
        ValueError: a step that is not above zero.
    """
    _require_step(step_px)
    axes = []
    for low, high in zip(area.low_px, area.high_px, strict=True):
        count = int((high - low) / step_px + 1e-9)
        axes.append((low + high - count * step_px) / 2 + step_px * np.arange(count + 1))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def spiral_positions(area: ScanArea, *, step_px: float) -> Positions:
    """A Fermat spiral from the middle of the area outwards, (n, 2), one point per step_px² on average.

    The golden angle between points leaves no period for raster artefacts (Huang et al., Opt. Express 22, 12634 (2014)).

    Raises:
        ValueError: a step that is not above zero.
    """
    _require_step(step_px)
    low, high = np.array(area.low_px), np.array(area.high_px)
    reach = float(np.hypot(*(high - low))) / 2
    k = np.arange(int(np.pi * (reach / step_px) ** 2) + 1)
    angle, radius = k * np.pi * (3 - np.sqrt(5)), step_px * np.sqrt(k / np.pi)
    points = (low + high) / 2 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    inside: Positions = points[((points >= low) & (points <= high)).all(axis=1)]
    return inside


def jittered(positions_px: Positions, area: ScanArea, rng: np.random.Generator, *, jitter_px: float) -> Positions:
    """Move each position by up to `jitter_px` along each axis, evenly distributed, kept inside the area."""
    moved = positions_px + rng.uniform(-jitter_px, jitter_px, positions_px.shape)
    return np.clip(moved, area.low_px, area.high_px)


def on_whole_pixels(positions_px: Positions, size: int) -> Positions:
    """The nearest positions whose patches start on whole pixels, so that nothing is interpolated."""
    edge = (size - 1) / 2
    return np.rint(positions_px - edge) + edge


def step_for_overlap(diameter_px: float, overlap: float) -> float:
    """The step at which discs of a diameter overlap by a fraction of it: (1 − overlap)·diameter.

    Raises:
        ValueError: an overlap outside [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap: expected a number in [0, 1), found {overlap}")
    return (1 - overlap) * diameter_px


def _require_step(step_px: float) -> None:
    if not (np.isfinite(step_px) and step_px > 0):
        raise ValueError(f"step_px: expected a number above zero, found {step_px}")
