"""Complex images: the phase as hue and the modulus as brightness, with the wheel that says which is which."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.plotting.coarse import coarse, extent_of_blocks
from ptycho_adapters.plotting.panels import HATCH_COLOUR, UNCOVERED_COLOUR, Complex, Image, extent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WHEEL_PX = 181
_LABELS = ((0.0, "0"), (0.5, "π/2"), (1.0, "π"), (1.5, "−π/2"))


def complex_rgb(values: Complex, *, brightest: float) -> Image:
    """Give the colours of complex numbers: hue from the phase (0 is red), brightness from the modulus.

    Args:
        values: (...,) complex.
        brightest: modulus that is shown at full brightness; larger ones look the same.

    Returns:
        (..., 3) float64 in [0, 1].
    """
    from matplotlib.colors import hsv_to_rgb  # noqa: PLC0415 - matplotlib takes half a second

    hue = np.mod(np.angle(values).astype(np.float64) / (2.0 * math.pi), 1.0)
    scale = brightest if brightest > 0 else 1.0
    brightness = np.clip(np.abs(values).astype(np.float64) / scale, 0.0, 1.0)
    colours: Image = hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.9), brightness], axis=-1))
    return colours


def draw_complex(
    axes: Axes,
    values: Complex,
    shown: npt.NDArray[np.bool_],
    *,
    title: str,
    brightest: float,
    origin_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Draw a complex image with the wheel as its legend; what is not shown is hatched.

    Args:
        axes: to draw into.
        values: (H, W) complex.
        shown: (H, W) bool.
        title: above the image.
        brightest: modulus at full brightness.
        origin_px: (y, x) of pixel [0, 0].
    """
    axes.patch.set(facecolor=UNCOVERED_COLOUR, edgecolor=HATCH_COLOUR, hatch="///")
    left, right, bottom, top = whole = extent(shown, origin_px)
    means, known, side = coarse(values.astype(np.complex64, copy=False), shown)
    rgba = np.concatenate([complex_rgb(means, brightest=brightest), known[..., np.newaxis]], axis=-1)
    axes.imshow(rgba, extent=extent_of_blocks(whole, known.shape, side))
    # The last blocks of a coarse one may reach beyond it.
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("x / px")
    axes.set_ylabel("y / px")
    draw_wheel(axes.inset_axes((1.05, 0.37, 0.26, 0.26)), brightest=brightest)


def draw_wheel(axes: Axes, *, brightest: float) -> None:
    """Draw the colour wheel: the complex plane up to the brightest modulus."""
    plane = np.linspace(-1.0, 1.0, _WHEEL_PX)
    wheel = plane[np.newaxis, :] + 1j * plane[::-1, np.newaxis]
    inside = np.abs(wheel) <= 1.0
    axes.imshow(
        np.concatenate([complex_rgb(wheel, brightest=1.0), inside[..., np.newaxis]], axis=-1), extent=(-1, 1, -1, 1)
    )
    for turn, label in _LABELS:
        angle = turn * math.pi
        axes.text(1.3 * math.cos(angle), 1.3 * math.sin(angle), label, ha="center", va="center", fontsize=7)
    axes.text(0.0, -1.9, f"modulus\n0 to {brightest:.3g}", ha="center", va="top", fontsize=7)
    axes.set(xlim=(-1.65, 1.65), ylim=(-1.65, 1.65))
    axes.set_axis_off()
