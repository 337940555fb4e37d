"""One picture of a value, for notebooks: what `plot()` of a scan, a reconstruction or a model shows."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.plotting.figures import blank
from ptycho_core.errors import DependencyError
from ptycho_core.measurement.inspection import inspect_scan
from ptycho_core.measurement.scan import Scan
from ptycho_core.results.product import Product
from ptycho_core.results.reconstruction import Reconstruction

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ptycho_adapters.plotting.curves import LossCurves

_PANEL_IN, _DPI = (4.6, 4.0), 100


def plot(value: object) -> Figure:
    """Draw a scan, a reconstruction or a product.

    Args:
        value: what to draw.

    Returns:
        A figure that belongs to no window; notebooks show it, `savefig` writes it.

    Raises:
        TypeError: it is of another kind.
        DependencyError: matplotlib is not installed.
    """
    if isinstance(value, Scan):
        return _scan(value)
    if isinstance(value, Reconstruction):
        return _result(value.object, value.coverage, value.probe, value.origin_px)
    if isinstance(value, Product):
        coverage = np.ones(value.object.shape, dtype=np.float32) if value.coverage is None else value.coverage
        return _result(value.object, coverage, value.probe, value.origin_px)
    message = f"plot: expected a Scan, a Reconstruction or a Product, found {type(value).__name__}"
    raise TypeError(message)


def plot_model(
    probe: NDArray[np.complex64], start_probe: NDArray[np.complex64], losses: LossCurves, *, unit: str
) -> Figure:
    """Draw the probe of a model before and after its training, and the losses.

    Args:
        probe: (modes, N, N) complex, refined.
        start_probe: (modes, N, N) complex, that the training started from.
        losses: of the training.
        unit: of the losses.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    from ptycho_adapters.plotting.complex_colours import draw_complex  # noqa: PLC0415 - see `_figure`
    from ptycho_adapters.plotting.curves import draw_losses  # noqa: PLC0415

    figure = _figure(1, 3)
    first, second, third = figure.subplots(1, 3)
    brightest = float(max(np.abs(start_probe[0]).max(), np.abs(probe[0]).max()))
    whole = np.ones(probe.shape[1:], dtype=bool)
    for axes, title, mode in ((first, "Probe before", start_probe[0]), (second, "Probe after", probe[0])):
        draw_complex(axes, mode, whole, title=title, brightest=brightest)
    draw_losses(third, losses, unit=unit)
    return figure


def _scan(scan: Scan) -> Figure:
    from ptycho_adapters.plotting.overview import draw_overview  # noqa: PLC0415 - see `_figure`

    figure = _figure(2, 2)
    draw_overview(figure, inspect_scan(scan))
    return figure


def _result(
    object_: NDArray[np.complex64],
    coverage: NDArray[np.float32],
    probe: NDArray[np.complex64],
    origin_px: tuple[float, float],
) -> Figure:
    from ptycho_adapters.plotting.complex_colours import draw_complex  # noqa: PLC0415 - see `_figure`
    from ptycho_adapters.plotting.panels import amplitude_panel, crop, draw, phase_panel  # noqa: PLC0415

    figure = _figure(1, 3)
    first, second, third = figure.subplots(1, 3)
    draw(figure, first, crop(amplitude_panel(object_, coverage > 0, "Amplitude", origin_px)))
    draw(figure, second, crop(phase_panel(object_, coverage > 0, "Phase", origin_px)))
    whole = np.ones(probe.shape[1:], dtype=bool)
    draw_complex(third, probe[0], whole, title="Probe", brightest=float(np.abs(probe[0]).max()))
    return figure


def _figure(rows: int, columns: int) -> Figure:
    """Make an empty figure; matplotlib is loaded here, where the first picture is wanted."""
    if importlib.util.find_spec("matplotlib") is None:
        message = "pictures need matplotlib: pip install 'matplotlib>=3.9'"
        raise DependencyError(message)
    return blank((_PANEL_IN[0] * columns, _PANEL_IN[1] * rows), dpi=_DPI)
