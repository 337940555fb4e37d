"""Positions scaled, turned and mirrored about the middle of the scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.measurement.preparation.settings import Flip

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptycho_core.measurement.preparation.settings import PreparationSettings

    Positions = npt.NDArray[np.float64]


@attrs.frozen(kw_only=True)
class ScanTurn:
    """How the axes of a scan lie on the detector.

    Attributes:
        rad: turn that brings positions along the axes of the scan to those of the detector, from x towards y.
        exchanged: whether x and y are to be exchanged after it.
    """

    rad: float
    exchanged: bool = False

    def __str__(self) -> str:
        exchanged = ", and their axes exchanged" if self.exchanged else ""
        return f"turned by {self.rad:g} rad from x towards y{exchanged}"

    def of(self, positions: Positions) -> Positions:
        """Turn positions (n, 2), (y, x), about the middle of their box."""
        moved = turned_positions(positions, self.rad)
        return moved[:, ::-1] if self.exchanged else moved


def turned_positions(positions: Positions, turn_rad: float) -> Positions:
    """Turn positions (n, 2), (y, x), from x towards y about the middle of their box, which stays where it is."""
    middle = (positions.min(axis=0) + positions.max(axis=0)) / 2
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    y, x = (positions - middle).T
    turned: Positions = np.stack([sine * x + cosine * y, cosine * x - sine * y], axis=1) + middle
    return turned


def moved_positions(positions: Positions, settings: PreparationSettings) -> Positions:
    """Exchange the axes of positions, flip, turn and scale them, in this order, about the middle of their box.

    Args:
        positions: (n, 2), (y, x), in any unit.
        settings: says what of it.

    Returns:
        (n, 2) in the same unit; the middle of the box stays where it is, unless axes are exchanged.
    """
    moved = positions[:, ::-1] if settings.positions_transpose else positions
    middle = (moved.min(axis=0) + moved.max(axis=0)) / 2
    turned = turned_positions(flipped(moved - middle, settings.positions_flip), settings.positions_turn_rad or 0.0)
    scaled: Positions = settings.positions_scale * turned + middle
    return scaled


def flipped(positions: Positions, flip: Flip) -> Positions:
    """Let axes of positions about the origin run the other way: `ROWS` is y, `COLUMNS` is x."""
    signs = {Flip.NONE: (1, 1), Flip.ROWS: (-1, 1), Flip.COLUMNS: (1, -1), Flip.BOTH: (-1, -1)}[flip]
    return positions * np.array(signs, dtype=np.float64)


def oriented_positions(positions: Positions, settings: PreparationSettings) -> Positions:
    """Turn positions about the origin as `oriented` turns frames: of both, the same object comes, turned alike."""
    y, x = positions.T
    for _ in range(settings.turn_deg // 90):
        y, x = -x, y
    turned = flipped(np.stack([y, x], axis=1), settings.flip)
    return turned[:, ::-1] if settings.transpose else turned
