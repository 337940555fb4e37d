"""Where the direct beam lies on the detector, by what its probe would show there.

A beam that is off by a whole number of pixels is a slope of phase on the probe. With known positions that is no free
choice any more: an object that makes up for it would have a slope of its own under each patch. A fraction of a pixel
is small enough for probe and object to share.

A probe whose far field is nothing like the mean pattern cannot say where the beam is. The pattern itself then can: what
scatters to one side of the beam scatters as much to the other, on the mean over an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_core.errors import Problem, ScanError

if TYPE_CHECKING:
    import numpy.typing as npt

    Real = npt.NDArray[np.float64]

SYMMETRY = "middle of symmetry of the mean frame"
MASS = "centre of mass of the bright light"
_DARK_PERCENT = 10.0  # of the pixels are taken for background
_BRIGHT, _LIT = 0.2, 0.02  # of the brightest light: what belongs to the beam, and where to look for its symmetry
_FEW_PIXELS = 16  # that are brighter than the light that is called the brightest
_ITS_OWN_TURN = 0.9  # likeness of a mean frame to its half turn, below which that says nothing
_BETWEEN_PIXELS = 0.998  # of the likeness counts there, along each axis
_MOST_OF_IT = 0.6  # of the light that has to have a counterpart in the frame
_CLEAR_GAIN = 1.002  # of the agreement, for a beam to be moved
_ALIKE = 0.8  # correlation of two patterns, below which one says nothing about the other


def beam_offset_px(
    mean_counts: Real, probe: npt.NDArray[np.complexfloating], bad_pixels: npt.NDArray[np.bool_] | None = None
) -> tuple[int, int]:
    """Find by how many pixels the light of all patterns is off the place where a probe would have it.

    The moduli of the mean pattern and of the probe's far field are correlated over all cyclic shifts; where they are
    not alike at any, it is the middle about which the mean pattern is symmetric. A median over 3 x 3 pixels takes out
    hot ones first, so that a single pixel has no say.

    Args:
        mean_counts: (N, N) mean of the patterns, zero frequency expected at N // 2.
        probe: (modes, N, N) or (N, N) complex.
        bad_pixels: (N, N), True where not to look.

    Returns:
        (y, x) whole pixels, each from -N // 2 to (N - 1) // 2; (0, 0) unless another place agrees clearly better.
    """
    from scipy.ndimage import median_filter  # noqa: PLC0415 - keeps `import ptycho_core` quick

    size = mean_counts.shape[0]
    modes = probe.astype(np.complex128).reshape(-1, size, size)
    far = np.fft.fftshift(np.square(np.abs(np.fft.fft2(modes))).sum(axis=0))
    light = np.where(bad_pixels, 0.0, mean_counts) if bad_pixels is not None else mean_counts
    seen, wanted = (median_filter(image, size=3, mode="wrap") for image in (light, far))
    seen = np.sqrt(np.clip(seen - np.percentile(seen, _DARK_PERCENT), 0.0, None))
    agreement = _agreement(seen, np.sqrt(wanted))
    best = _place_of_most(agreement)
    if agreement[best] < _ALIKE:
        return _middle_of_symmetry(seen)
    return (0, 0) if agreement[best] <= _CLEAR_GAIN * agreement[0, 0] else _signed(best, size)


def _agreement(image: Real, other: Real) -> Real:
    """Correlate two images over all cyclic shifts of the second; 1 where they are the same up to a factor."""
    scale = float(np.linalg.norm(image) * np.linalg.norm(other))
    product: Real = np.fft.ifft2(np.fft.fft2(image) * np.fft.fft2(other).conj()).real
    return product / scale if scale > 0.0 else np.zeros_like(product)


def _middle_of_symmetry(seen: Real) -> tuple[int, int]:
    """Find the whole pixel about which an image is most nearly its own half turn, of four that are, the brightest."""
    size = len(seen)
    turned = _agreement(seen, np.roll(seen[::-1, ::-1], 1, axis=(0, 1)))
    best = _place_of_most(turned)
    if turned[best] < _ALIKE:
        return 0, 0
    middle = size // 2
    # A turn about a place is one about the place half a frame further as well, where frames repeat themselves.
    places = [
        (round((best[0] / 2 + down) % size), round((best[1] / 2 + right) % size))
        for down in (0.0, size / 2)
        for right in (0.0, size / 2)
    ]
    axis = np.arange(size)

    def light_near(place: tuple[int, int]) -> float:
        rows, columns = (np.cos(2.0 * np.pi * (axis - start) / size) for start in place)
        return float((seen * (rows[:, None] + columns[None, :])).sum())

    row, column = max(places, key=light_near)
    return _signed(((row - middle) % size, (column - middle) % size), size)


def _place_of_most(image: Real) -> tuple[int, int]:
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    return int(row), int(column)


def _signed(shift: tuple[int, int], size: int) -> tuple[int, int]:
    middle = size // 2
    return (shift[0] + middle) % size - middle, (shift[1] + middle) % size - middle


@attrs.frozen(kw_only=True)
class BeamCentre:
    """Where the direct beam lies in a frame of any shape.

    Attributes:
        y_px: row.
        x_px: column.
        found_by: how, for people.
    """

    y_px: float
    x_px: float
    found_by: str

    @property
    def place_px(self) -> tuple[float, float]:
        """(y, x)."""
        return self.y_px, self.x_px


def find_beam_centre(mean: Real, bad: npt.NDArray[np.bool_]) -> BeamCentre:
    """Find the direct beam in the mean frame: the place about which it is most nearly its own half turn.

    What scatters to one side scatters as much to the other, on the mean over an object, also where the illumination
    is uneven: fourth roots of the counts let the outline of the light speak rather than its brightest side. Where no
    half turn is like the frame, it is the centre of mass of what is bright. A median over 3 x 3 pixels takes out hot
    ones first.

    Args:
        mean: (H, W) mean of some frames, zero frequency anywhere inside.
        bad: (H, W), True where not to look.

    Raises:
        ScanError: there is no light.
    """
    from scipy.ndimage import binary_dilation, median_filter  # noqa: PLC0415 - keeps `import ptycho_core` quick

    good = ~bad & np.isfinite(mean)
    light = median_filter(np.where(good, mean, 0.0), size=3, mode="nearest")
    dark = float(np.percentile(light[good], _DARK_PERCENT)) if good.any() else 0.0
    light = np.clip(light - dark, 0.0, None)
    brightest = float(np.partition(light, -_FEW_PIXELS, axis=None)[-_FEW_PIXELS]) if light.size >= _FEW_PIXELS else 0.0
    if brightest <= 0.0:
        fix = "say where with --centre-y and --centre-x"
        problem = Problem(path="centre", expected="light on the detector", found="none", fix=fix)
        raise ScanError("preparation", [problem])
    # The median of a pixel beside a gap is drawn down by the gap.
    apart = good & ~binary_dilation(~good, np.ones((3, 3), dtype=bool))
    enough = float(light[apart].sum()) >= _MOST_OF_IT * float(light[good].sum())
    middle = _middle_of_half_turn(light, apart if enough else good, lit=good & (light >= _LIT * brightest))
    if middle is not None:
        return BeamCentre(y_px=middle[0], x_px=middle[1], found_by=SYMMETRY)
    bright = np.where(light >= _BRIGHT * brightest, light, 0.0)
    rows, columns = bright.sum(axis=1), bright.sum(axis=0)
    y, x = (float(line @ np.arange(len(line)) / line.sum()) for line in (rows, columns))
    return BeamCentre(y_px=y, x_px=x, found_by=MASS)


def _middle_of_half_turn(
    light: Real, good: npt.NDArray[np.bool_], *, lit: npt.NDArray[np.bool_]
) -> tuple[float, float] | None:
    """Find the place, to half a pixel, about which an image is most like its own half turn; None if it is at none.

    Only pairs of good pixels count (D. Padfield, Masked object registration in the Fourier domain, 2012).
    """
    from scipy.signal import fftconvolve  # noqa: PLC0415 - see above

    # As much about the light as it is wide: what is dark there is no counterpart either.
    ranges = [(int(at.min()), int(at.max()) + 1) for at in np.nonzero(lit)]
    box = tuple(slice(max(0, 2 * first - last), 2 * last - first) for first, last in ranges)
    valid = good[box].astype(np.float64)
    root = valid * light[box] ** 0.25
    power = float(np.square(root).sum())
    paired = fftconvolve(np.square(root), valid)
    likeness = np.where(
        paired >= _MOST_OF_IT * power, fftconvolve(root, root) / np.maximum(paired, 1e-12 * power), -np.inf
    )
    # Between two places that are as good, the one on a pixel: that is where zero frequency comes to.
    likeness[1::2] *= _BETWEEN_PIXELS
    likeness[:, 1::2] *= _BETWEEN_PIXELS
    best = _place_of_most(likeness)
    if likeness[best] < _ITS_OWN_TURN:
        return None
    return box[0].start + best[0] / 2, box[1].start + best[1] / 2
