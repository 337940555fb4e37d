"""What is said about an experiment beside its file: lengths and positions, which outrank what the file says."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.measurement.preparation.positions import ScanTurn

Real = npt.NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False)
class Stated:
    """What was said; None for what was not.

    Attributes:
        positions: (n, 2), (y, x) of the beam on the object, in metres.
        positions_px: the same in object pixels, instead.
        raster: (rows, columns) of a scan row by row.
        step_m: (y, x) from row to row and from column to column of a raster, in metres.
        wavelength_m: wavelength.
        distance_m: from object to detector.
        detector_pixel_m: side of a detector pixel.
        pixel_m: object pixel.
        positions_turn_rad: turn of the positions from x towards y, instead of the one that the file states.
    """

    positions: Real | None = None
    positions_px: Real | None = None
    raster: tuple[int, int] | None = None
    step_m: tuple[float, float] | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    pixel_m: float | None = None
    positions_turn_rad: float | None = None

    @property
    def names(self) -> list[str]:
        """Names of what was said."""
        return [field.name for field in attrs.fields(type(self)) if getattr(self, field.name) is not None]

    @property
    def places_frames(self) -> bool:
        """Whether positions were said, one way or the other."""
        return self.positions is not None or self.positions_px is not None or self.step_m is not None

    def turn_of(self, of_file: ScanTurn | None) -> ScanTurn | None:
        """Settle the turn: what was said, then the file's, which is about its raster and not about a table."""
        if self.positions_turn_rad is not None:
            return ScanTurn(rad=self.positions_turn_rad)
        return of_file if self.positions is None and self.positions_px is None else None

    def of_other_scan(self) -> Stated:
        """Give what holds for a second scan of the same experiment, too: everything but the positions."""
        return attrs.evolve(self, positions=None, positions_px=None)


def raster_positions(raster: tuple[int, int], step: tuple[float, float]) -> Real:
    """Give the positions of a scan row by row, (n, 2), (y, x), in the unit of the steps; the first one is 0.

    Args:
        raster: (rows, columns).
        step: (y, x) between neighbours.
    """
    rows, columns = np.mgrid[: raster[0], : raster[1]]
    return np.stack([rows.ravel() * step[0], columns.ravel() * step[1]], axis=1).astype(np.float64)
