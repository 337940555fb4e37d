"""How far a reconstruction may be off, pixel by pixel."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen(kw_only=True, eq=False)
class PriorByFrequency:
    """How much of what is known of an object comes from the network rather than from the counts, by spatial frequency.

    Of the waves in a ring, the share that the network decides; one minus it is the share that the counts decide.

    Attributes:
        frequency_per_px: (r,) float32, middle of each ring, cycles per pixel.
        phase: (r,) float32 in [0, 1], of the phase.
        amplitude: (r,) float32 in [0, 1], of the amplitude.
    """

    frequency_per_px: NDArray[np.float32]
    phase: NDArray[np.float32]
    amplitude: NDArray[np.float32]

    @property
    def half_phase_per_px(self) -> float:
        """First frequency above the lowest ring from which on the network decides half of the phase or more.

        Half a cycle per pixel if there is none.
        """
        above = np.flatnonzero(self.phase[1:] >= 0.5)
        return float(self.frequency_per_px[1 + above[0]]) if above.size else 0.5


@attrs.frozen(kw_only=True, eq=False)
class Uncertainty:
    """Standard deviations of an object, given the probe: what an error of the probe adds is not in them.

    Attributes:
        phase_std_rad: (H, W) float32, the constant phase being free; infinite where nothing was measured.
        amplitude_std: (H, W) float32, in the scale of the object; infinite where nothing was measured.
        prior_share: (H, W) float32 in [0, 1], how much of what is known of a pixel comes from the network rather than
            from the counts, by its own light alone: slow waves that pixels share are not in it; 1 where nothing was
            measured.
        by_frequency: the same by spatial frequency, slow waves and all; None where it is not known.
    """

    phase_std_rad: NDArray[np.float32]
    amplitude_std: NDArray[np.float32]
    prior_share: NDArray[np.float32]
    by_frequency: PriorByFrequency | None = None

    @property
    def median_phase_std_rad(self) -> float:
        """Over what was measured; infinite if nothing was."""
        measured = self.phase_std_rad[np.isfinite(self.phase_std_rad)]
        return float(np.median(measured)) if measured.size else float("inf")
