"""Mean frames: one alone, or as it came into a preparation and as it left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.plotting.figures import blank, write_png
from ptycho_adapters.wording import printable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE_IN, _ONE_IN, _DPI, _SMALLEST_SHARE = (10.0, 5.0), (6.0, 5.0), 130, 1e-5


def write_mean_png(
    mean: npt.NDArray[np.float64], beam_px: tuple[float, float] | None, path: Path, *, title: str
) -> None:
    """Draw a mean frame logarithmically, with a mark where the beam is.

    Args:
        mean: (H, W).
        beam_px: (y, x) of the beam, if it is known.
        path: PNG file; written atomically.
        title: above the picture.
    """
    figure = blank(_ONE_IN, dpi=_DPI)
    axes = figure.subplots()
    _draw(figure, axes, mean, "mean frame")
    if beam_px is not None:
        axes.plot([beam_px[1]], [beam_px[0]], marker="+", color="white", markersize=12)
    figure.suptitle(printable(title), fontsize=12, parse_math=False)
    with atomic_path(path) as partial:
        write_png(figure, partial)


def write_before_after_png(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], path: Path, *, title: str
) -> None:
    """Draw both mean frames side by side, logarithmically; the middle of the second is marked.

    Args:
        before: (H, W) mean of frames as they came.
        after: (N, N) mean of the patterns.
        path: PNG file; written atomically.
        title: above the picture.
    """
    figure = blank(_SIZE_IN, dpi=_DPI)
    for axes, image, name in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
        _draw(figure, axes, image, name)
    middle = after.shape[0] // 2
    axes.plot([middle], [middle], marker="+", color="white", markersize=12)
    figure.suptitle(printable(title), fontsize=12, parse_math=False)
    with atomic_path(path) as partial:
        write_png(figure, partial)


def _draw(figure: Figure, axes: Axes, image: npt.NDArray[np.float64], name: str) -> None:
    from matplotlib.colors import LogNorm  # noqa: PLC0415 - as above

    high = float(np.nanpercentile(image, 99.9))
    top = high if high > 0.0 else 1.0
    shown = axes.imshow(np.clip(image, _SMALLEST_SHARE * top, None), norm=LogNorm(_SMALLEST_SHARE * top, top))
    figure.colorbar(shown, ax=axes, shrink=0.8, label="mean counts")
    axes.set_title(f"{name}: {image.shape[0]} x {image.shape[1]} px")
