"""One image with axes in pixels and a colour bar, and how objects and probes become one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.plotting.coarse import coarse, extent_of_blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex64] | npt.NDArray[np.complex128]

_MARGIN_PX = 4
_ROBUST_PERCENT = (0.5, 99.5)
# A phase that spans more than this is shown on a cyclic map, where -π and π look alike.
_WIDE_PHASE_RAD = 1.5 * math.pi
UNCOVERED_COLOUR = "#ece7de"
HATCH_COLOUR = "#d5cdbf"


@attrs.frozen(kw_only=True, eq=False)
class Panel:
    """One image with what its axes and colour bar say.

    Attributes:
        values: (H, W); not a number where there is nothing to show.
        title: above the image.
        unit: of the values.
        colours: name of the colour map.
        limits: values at the ends of the colour bar.
        extent_px: left, right, bottom, top of the image.
        extend: on which sides values lie beyond the colour bar.
        interpolation: how the image is brought to the resolution of the picture, in matplotlib's words.
    """

    values: Image
    title: str
    unit: str
    colours: str
    limits: tuple[float, float]
    extent_px: tuple[float, float, float, float]
    extend: str = "neither"
    interpolation: str = "nearest"


def amplitude_panel(
    object_: Complex, covered: npt.NDArray[np.bool_], title: str, origin_px: tuple[float, float]
) -> Panel:
    """Show the modulus of an object in gray.

    Args:
        object_: (H, W) complex.
        covered: (H, W), False where there is nothing to show.
        title: above the image.
        origin_px: (y, x) of pixel [0, 0], so that the axes read in the frame of the positions.
    """
    values = np.where(covered, np.abs(object_).astype(np.float64), np.nan)
    limits = robust_limits(values)
    return Panel(
        values=values,
        title=title,
        unit="amplitude",
        colours="gray",
        limits=limits,
        extent_px=extent(values, origin_px),
        extend=overflow(values, limits),
    )


def phase_panel(object_: Complex, covered: npt.NDArray[np.bool_], title: str, origin_px: tuple[float, float]) -> Panel:
    """Show the phase of an object about its circular mean; arguments as for `amplitude_panel`."""
    # The global phase is free: about its circular mean the phase wraps as rarely as it can.
    mean = np.sum(object_[covered], dtype=np.complex128)
    turned = object_ * np.exp(-1j * np.angle(mean))
    values = np.where(covered, np.angle(turned).astype(np.float64), np.nan)
    low, high = robust_limits(values)
    wide = high - low > _WIDE_PHASE_RAD
    limits = (-math.pi, math.pi) if wide else (low, high)
    return Panel(
        values=values,
        title=title,
        unit="phase / rad",
        colours="twilight" if wide else "gray",
        limits=limits,
        extent_px=extent(values, origin_px),
        extend=overflow(values, limits),
    )


def probe_panels(probe: Complex, *, title: str) -> list[list[Panel]]:
    """Make modulus and phase of every probe mode, on one scale; the phase only where there is light.

    Args:
        probe: (modes, N, N) complex, in square roots of photons.
        title: above the images.

    Returns:
        One row of two panels per mode.
    """
    lit = np.abs(probe) > 0.05 * np.abs(probe).max()
    power = np.sum(np.square(np.abs(probe)), axis=(1, 2))
    whole = np.ones(probe.shape[1:], dtype=bool)
    return [
        [
            attrs.evolve(
                amplitude_panel(mode, whole, f"{title}, mode {k}: {share:.1%} of power", (0.0, 0.0)),
                unit="modulus / √photon",
                colours="magma",
                limits=(0.0, float(np.abs(probe).max())),
                extend="neither",
            ),
            attrs.evolve(
                phase_panel(mode, lit[k], f"Phase, mode {k}", (0.0, 0.0)),
                colours="twilight",
                limits=(-math.pi, math.pi),
                extend="neither",
            ),
        ]
        for k, (mode, share) in enumerate(zip(probe, power / power.sum(), strict=True))
    ]


def extent(values: npt.NDArray[np.generic], origin_px: tuple[float, float]) -> tuple[float, float, float, float]:
    """Give left, right, bottom, top of an image: pixel centres lie on whole coordinates, y grows downwards."""
    (y, x), (height, width) = origin_px, values.shape
    return x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5


def crop(panel: Panel) -> Panel:
    """Cut an image to the box of what was measured, with a margin."""
    finite = np.isfinite(panel.values)
    top, bottom = _range(np.flatnonzero(finite.any(axis=1)), finite.shape[0])
    left, right = _range(np.flatnonzero(finite.any(axis=0)), finite.shape[1])
    values = panel.values[top:bottom, left:right]
    x, _, _, y = panel.extent_px
    return attrs.evolve(panel, values=values, extent_px=extent(values, (y + 0.5 + top, x + 0.5 + left)))


def _range(indices: npt.NDArray[np.intp], length: int) -> tuple[int, int]:
    if not indices.size:
        return 0, length
    return max(int(indices[0]) - _MARGIN_PX, 0), min(int(indices[-1]) + 1 + _MARGIN_PX, length)


def robust_limits(values: Image) -> tuple[float, float]:
    """Give the range of all but the most extreme values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite, _ROBUST_PERCENT))
    margin = max(1e-6, 1e-6 * abs(low)) if high - low < 1e-6 * max(abs(low), 1e-6) else 0.0
    return low - margin, high + margin


def overflow(values: Image, limits: tuple[float, float]) -> str:
    """Say on which sides of the colour bar values lie beyond its ends."""
    below = bool(np.any(values < limits[0]))
    above = bool(np.any(values > limits[1]))
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def on_one_scale(panels: list[Panel]) -> list[Panel]:
    """Give panels the same colours and limits."""
    low, high = min(panel.limits[0] for panel in panels), max(panel.limits[1] for panel in panels)
    colours = "twilight" if any(panel.colours == "twilight" for panel in panels) else panels[0].colours
    return [
        attrs.evolve(panel, limits=(low, high), colours=colours, extend=overflow(panel.values, (low, high)))
        for panel in panels
    ]


def draw(figure: Figure, axes: Axes, panel: Panel) -> None:
    """Draw a panel with its colour bar into axes; what is not measured is hatched."""
    axes.patch.set(facecolor=UNCOVERED_COLOUR, edgecolor=HATCH_COLOUR, hatch="///")
    values, known, side = coarse(panel.values, np.isfinite(panel.values))
    image = axes.imshow(
        np.ma.masked_array(values, ~known),
        cmap=panel.colours,
        vmin=panel.limits[0],
        vmax=panel.limits[1],
        extent=extent_of_blocks(panel.extent_px, values.shape, side),
        interpolation=panel.interpolation,
    )
    # The last blocks of a coarse one may reach beyond it.
    axes.set_xlim(panel.extent_px[0], panel.extent_px[1])
    axes.set_ylim(panel.extent_px[2], panel.extent_px[3])
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel("x / px")
    axes.set_ylabel("y / px")
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0)), extend=panel.extend)
    bar.set_label(f"{panel.unit}   ({panel.limits[0]:.3g} to {panel.limits[1]:.3g})")
