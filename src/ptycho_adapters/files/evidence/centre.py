"""Where the direct beam lies in a stack of patterns: in the middle of the frame, or wrapped into its corners."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.measurement.frames import release
from ptycho_core.measurement.pixel_faults import hot_pixels

if TYPE_CHECKING:
    from ptycho_core.measurement.arrays import Patterns

_SAMPLED_FRAMES = 64
# Light spread evenly has the same radius about both places; this is far from it.
_CLEAR_RATIO = 0.75
_KEPT_SHARE = 0.75


class BeamPlace(Enum):
    """Where zero frequency is."""

    MIDDLE = "middle"
    CORNER = "corner"
    UNCLEAR = "unclear"


@attrs.frozen(kw_only=True)
class BeamEvidence:
    """Where the direct beam is believed to be, and why.

    Attributes:
        place: the verdict.
        middle_px: root mean square distance of the light from pixel N // 2.
        corner_px: the same from pixel 0, distances wrapped around the frame.
    """

    place: BeamPlace
    middle_px: float
    corner_px: float

    def __str__(self) -> str:
        return f"the light lies {self.corner_px:.3g} px about the corner and {self.middle_px:.3g} px about the middle"


def find_beam(patterns: Patterns, bad_pixels: npt.NDArray[np.bool_] | None) -> BeamEvidence:
    """Tell patterns with zero frequency in the middle from those as a Fourier transform leaves them, by where light is.

    Diffraction falls off from the direct beam: the light of all frames together is closer to the one of the two places
    that it starts from. Data that are off by part of the frame are close to neither. What single pixels, or a few
    frames, hold beyond all others does not count.

    Args:
        patterns: (n, N, N) valid patterns.
        bad_pixels: (N, N), True where not to look.

    Returns:
        The verdict with its two distances.
    """
    step = -(-len(patterns) // _SAMPLED_FRAMES)
    sampled = np.empty_like(patterns[::step], subok=False)
    for row, frame in enumerate(patterns[::step]):
        sampled[row] = frame
        # Frames far apart bring much of a map into memory that lies between them.
        release(patterns)
    good = np.ones(sampled.shape[1:], dtype=bool) if bad_pixels is None else ~bad_pixels
    light = _usual_light(sampled, good)
    total = float(light.sum())
    size = light.shape[0]
    from_corner = np.abs((np.arange(size) + size // 2) % size - size // 2).astype(np.float64)
    from_middle = np.abs(np.arange(size) - size // 2).astype(np.float64)
    if not 0.0 < total < np.inf:
        return BeamEvidence(place=BeamPlace.UNCLEAR, middle_px=np.nan, corner_px=np.nan)
    rows, columns = light.sum(axis=1) / total, light.sum(axis=0) / total
    corner, middle = (float(np.sqrt(np.sum((rows + columns) * distance**2))) for distance in (from_corner, from_middle))
    place = BeamPlace.UNCLEAR
    if corner < _CLEAR_RATIO * middle:
        place = BeamPlace.CORNER
    elif middle < _CLEAR_RATIO * corner:
        place = BeamPlace.MIDDLE
    return BeamEvidence(place=place, middle_px=middle, corner_px=corner)


def _usual_light(sampled: Patterns, good: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Give the mean of frames, (N, N), without the brightest quarter at each pixel and without hot pixels.

    Args:
        sampled: (m, N, N), which are put in order pixel by pixel.
        good: (N, N), where to look.
    """
    sampled.sort(axis=0)
    kept = max(1, int(_KEPT_SHARE * len(sampled)))
    mean = sampled[:kept].mean(axis=0, dtype=np.float64)
    light = np.where(good & np.isfinite(mean), mean, 0.0)
    hot = hot_pixels(light, good, n_frames=len(sampled), unit=1.0)
    return np.where(hot, 0.0, light)
