"""One picture of a scan: mean pattern, probe, positions and flux."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.plotting.complex_colours import draw_complex
from ptycho_adapters.plotting.curves import draw_flux, draw_positions
from ptycho_adapters.plotting.figures import blank, write_png
from ptycho_adapters.wording import printable
from ptycho_core.measurement.inspection import CENTRE_FOUND_BY, good_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ptycho_core.measurement.inspection import Inspection

_SIZE_IN = (11.0, 8.6)
_DPI = 130


def write_overview_png(inspection: Inspection, path: str | Path, *, title: str) -> None:
    """Write a picture of a scan.

    Args:
        inspection: of the scan.
        path: PNG file; written atomically.
        title: above the picture.
    """
    figure = blank(_SIZE_IN, dpi=_DPI)
    draw_overview(figure, inspection)
    figure.suptitle(printable(title), fontsize=12, parse_math=False)
    with atomic_path(path) as partial:
        write_png(figure, partial)


def draw_overview(figure: Figure, inspection: Inspection) -> None:
    """Draw mean pattern (logarithmic), probe, positions and flux into a figure."""
    axes = figure.subplots(2, 2)
    scan = inspection.scan
    _draw_mean(figure, axes[0, 0], inspection)
    main = scan.probe[int(np.argmax(inspection.probe.power_shares))]
    words = f"Probe: {inspection.probe.shape}, {inspection.probe.diameter_px:.3g} px"
    if scan.n_modes > 1:
        words += f", brightest of {scan.n_modes} modes"
    whole = np.ones(main.shape, dtype=bool)
    draw_complex(axes[0, 1], main, whole, title=words, brightest=float(np.abs(main).max()))
    draw_positions(axes[1, 0], scan.positions_px, patch_px=scan.N)
    draw_flux(axes[1, 1], inspection.detector.photons)


def _draw_mean(figure: Figure, axes: Axes, inspection: Inspection) -> None:
    from matplotlib.colors import LogNorm  # noqa: PLC0415 - see above

    mean = np.where(good_pixels(inspection.scan) & (inspection.detector.mean > 0), inspection.detector.mean, np.nan)
    # Less than one count in the whole scan is nowhere.
    low = 1.0 / inspection.scan.n_patterns
    high = max(float(np.nanmax(mean)), 2.0 * low)
    axes.set_facecolor("0.85")
    image = axes.imshow(mean, norm=LogNorm(low, high), cmap="magma", interpolation="nearest")
    marks = {
        f"{CENTRE_FOUND_BY[0].upper()}{CENTRE_FOUND_BY[1:]}": ("+", "white", inspection.centre_px),
        "The same of the probe's own far field": ("x", "cyan", inspection.expected_centre_px),
    }
    for label, (marker, colour, (y, x)) in marks.items():
        axes.plot([x], [y], linestyle="", marker=marker, color=colour, markersize=9.0, label=label)
    axes.legend(fontsize=8, loc="lower center", facecolor="0.35", labelcolor="white", framealpha=0.8)
    axes.set_title("Mean pattern (gray: masked or dark)", fontsize=11)
    axes.set_xlabel("column / px")
    axes.set_ylabel("row / px")
    figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0))).set_label("counts per frame, logarithmic")
