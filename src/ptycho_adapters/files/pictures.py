"""Pictures of objects and probes for people: PNG with axes in pixels and colour bars, and TIFF with the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex64] | npt.NDArray[np.complex128]

_WIDTH_IN = 6.4
_DPI = 150
_MARGIN_PX = 4
_ROBUST_PERCENT = (0.5, 99.5)
# A phase that spans more than this is shown on a cyclic map, where -π and π look alike.
_WIDE_PHASE_RAD = 1.5 * math.pi
_UNCOVERED_COLOUR = "#ece7de"
_HATCH_COLOUR = "#d5cdbf"


@attrs.frozen(kw_only=True, eq=False)
class _Panel:
    """One image with what its axes and colour bar say."""

    values: Image
    title: str
    unit: str
    colours: str
    limits: tuple[float, float]
    extent_px: tuple[float, float, float, float]
    extend: str = "neither"


def write_amplitude_png(
    object_: Complex,
    coverage: npt.NDArray[np.floating],
    path: str | Path,
    *,
    title: str = "Amplitude",
    origin_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write the modulus of an object as a gray image.

    Args:
        object_: (H, W) complex.
        coverage: (H, W), 0 where nothing was measured; such pixels are hatched.
        path: PNG file; written atomically.
        title: above the image.
        origin_px: (y, x) of pixel [0, 0], so that the axes read in the frame of the positions.
    """
    _save(path, [[_crop(_amplitude_panel(object_, coverage > 0, title, origin_px))]])


def write_phase_png(
    object_: Complex,
    coverage: npt.NDArray[np.floating],
    path: str | Path,
    *,
    title: str = "Phase",
    origin_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write the phase of an object, about its circular mean, on a cyclic map where it spans most of a turn.

    Args:
        object_: (H, W) complex.
        coverage: (H, W), 0 where nothing was measured; such pixels are hatched.
        path: PNG file; written atomically.
        title: above the image.
        origin_px: (y, x) of pixel [0, 0], so that the axes read in the frame of the positions.
    """
    _save(path, [[_crop(_phase_panel(object_, coverage > 0, title, origin_px))]])


def write_probe_png(probe: Complex, path: str | Path, *, title: str = "Probe") -> None:
    """Write the modulus and phase of every probe mode, on one scale; the phase only where there is light.

    Args:
        probe: (modes, N, N) complex, in square roots of photons.
        path: PNG file; written atomically.
        title: above the images.
    """
    lit = np.abs(probe) > 0.05 * np.abs(probe).max()
    power = np.sum(np.square(np.abs(probe)), axis=(1, 2))
    rows = [
        [
            attrs.evolve(
                _amplitude_panel(
                    mode, np.ones(mode.shape, dtype=bool), f"{title}, mode {k}: {share:.1%} of power", (0.0, 0.0)
                ),
                unit="modulus / √photon",
                colours="magma",
                limits=(0.0, float(np.abs(probe).max())),
                extend="neither",
            ),
            attrs.evolve(
                _phase_panel(mode, lit[k], f"Phase, mode {k}", (0.0, 0.0)),
                colours="twilight",
                limits=(-math.pi, math.pi),
                extend="neither",
            ),
        ]
        for k, (mode, share) in enumerate(zip(probe, power / power.sum(), strict=True))
    ]
    _save(path, rows)


def write_comparison_png(
    reconstruction: Complex,
    reference: Complex,
    mask: npt.NDArray[np.bool_],
    path: str | Path,
    *,
    figures: Mapping[str, float] | None = None,
) -> None:
    """Write a reconstruction beside its registered reference, amplitude above phase, on shared scales.

    Args:
        reconstruction: (H, W) complex.
        reference: (H, W) complex, already registered to it.
        mask: (H, W) bool, True where the two are compared.
        path: PNG file; written atomically.
        figures: figures of merit to write above.
    """
    both = (("Reconstruction", reconstruction), ("Reference", reference))
    amplitudes = [_crop(_amplitude_panel(array, mask, f"{name}: amplitude", (0.0, 0.0))) for name, array in both]
    phases = [_crop(_phase_panel(array, mask, f"{name}: phase", (0.0, 0.0))) for name, array in both]
    heading = "   ".join(f"{name} {value:.4g}" for name, value in (figures or {}).items())
    _save(path, [_on_one_scale(amplitudes), _on_one_scale(phases)], heading=heading)


def write_complex_tiff(array: Complex, path: str | Path) -> None:
    """Write an array as complex64 TIFF, one page per leading index; atomic.

    Args:
        array: (..., H, W) complex.
        path: TIFF file.
    """
    import tifffile  # noqa: PLC0415 - only who writes a TIFF needs it

    with atomic_path(path) as partial:
        tifffile.imwrite(partial, array.astype(np.complex64, copy=False))


def _amplitude_panel(
    object_: Complex, covered: npt.NDArray[np.bool_], title: str, origin_px: tuple[float, float]
) -> _Panel:
    values = np.where(covered, np.abs(object_).astype(np.float64), np.nan)
    limits = _robust_limits(values)
    return _Panel(
        values=values,
        title=title,
        unit="amplitude",
        colours="gray",
        limits=limits,
        extent_px=_extent(values, origin_px),
        extend=_overflow(values, limits),
    )


def _phase_panel(
    object_: Complex, covered: npt.NDArray[np.bool_], title: str, origin_px: tuple[float, float]
) -> _Panel:
    # The global phase is free: about its circular mean the phase wraps as rarely as it can.
    mean = np.sum(object_[covered], dtype=np.complex128)
    turned = object_ * np.exp(-1j * np.angle(mean))
    values = np.where(covered, np.angle(turned).astype(np.float64), np.nan)
    low, high = _robust_limits(values)
    wide = high - low > _WIDE_PHASE_RAD
    limits = (-math.pi, math.pi) if wide else (low, high)
    return _Panel(
        values=values,
        title=title,
        unit="phase / rad",
        colours="twilight" if wide else "gray",
        limits=limits,
        extent_px=_extent(values, origin_px),
        extend=_overflow(values, limits),
    )


def _extent(values: Image, origin_px: tuple[float, float]) -> tuple[float, float, float, float]:
    """Give left, right, bottom, top of an image: pixel centres lie on whole coordinates, y grows downwards."""
    (y, x), (height, width) = origin_px, values.shape
    return x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5


def _crop(panel: _Panel) -> _Panel:
    """Cut an image to the box of what was measured, with a margin."""
    finite = np.isfinite(panel.values)
    top, bottom = _range(np.flatnonzero(finite.any(axis=1)), finite.shape[0])
    left, right = _range(np.flatnonzero(finite.any(axis=0)), finite.shape[1])
    values = panel.values[top:bottom, left:right]
    x, _, _, y = panel.extent_px
    return attrs.evolve(panel, values=values, extent_px=_extent(values, (y + 0.5 + top, x + 0.5 + left)))


def _range(indices: npt.NDArray[np.intp], length: int) -> tuple[int, int]:
    if not indices.size:
        return 0, length
    return max(int(indices[0]) - _MARGIN_PX, 0), min(int(indices[-1]) + 1 + _MARGIN_PX, length)


def _robust_limits(values: Image) -> tuple[float, float]:
    """Give the range of all but the most extreme values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite, _ROBUST_PERCENT))
    margin = max(1e-6, 1e-6 * abs(low)) if high - low < 1e-6 * max(abs(low), 1e-6) else 0.0
    return low - margin, high + margin


def _overflow(values: Image, limits: tuple[float, float]) -> str:
    """Say on which sides of the colour bar values lie beyond its ends."""
    below = bool(np.any(values < limits[0]))
    above = bool(np.any(values > limits[1]))
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _on_one_scale(panels: list[_Panel]) -> list[_Panel]:
    low, high = min(panel.limits[0] for panel in panels), max(panel.limits[1] for panel in panels)
    colours = "twilight" if any(panel.colours == "twilight" for panel in panels) else panels[0].colours
    return [
        attrs.evolve(panel, limits=(low, high), colours=colours, extend=_overflow(panel.values, (low, high)))
        for panel in panels
    ]


def _save(path: str | Path, rows: list[list[_Panel]], *, heading: str = "") -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - matplotlib takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    height, width = rows[0][0].values.shape
    panel_height = _WIDTH_IN * min(max(height / width, 0.35), 2.0) * 0.82 + 0.7
    size = (_WIDTH_IN * len(rows[0]), panel_height * len(rows) + (0.4 if heading else 0.0))
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(
        figure.subplots(len(rows), len(rows[0]), squeeze=False).ravel(),
        [panel for row in rows for panel in row],
        strict=True,
    ):
        _draw(figure, axes, panel)
    if heading:
        figure.suptitle(heading, fontsize=11)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")


def _draw(figure: Figure, axes: Axes, panel: _Panel) -> None:
    axes.patch.set(facecolor=_UNCOVERED_COLOUR, edgecolor=_HATCH_COLOUR, hatch="///")
    image = axes.imshow(
        np.ma.masked_invalid(panel.values),
        cmap=panel.colours,
        vmin=panel.limits[0],
        vmax=panel.limits[1],
        extent=panel.extent_px,
        interpolation="nearest",
    )
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel("x / px")
    axes.set_ylabel("y / px")
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0)), extend=panel.extend)
    bar.set_label(f"{panel.unit}   ({panel.limits[0]:.3g} to {panel.limits[1]:.3g})")
