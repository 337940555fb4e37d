"""Pictures of objects and probes for people: PNG with axes in pixels and colour bars, and TIFF with the numbers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path, write_bytes
from ptycho_adapters.plotting.figures import blank, write_png
from ptycho_adapters.plotting.panels import (
    Complex,
    Panel,
    amplitude_panel,
    crop,
    draw,
    extent,
    on_one_scale,
    phase_panel,
    probe_panels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.uncertainty import Uncertainty

__all__ = [
    "Complex",
    "coverage_png",
    "phase_png",
    "write_amplitude_png",
    "write_comparison_png",
    "write_complex_tiff",
    "write_phase_png",
    "write_probe_png",
    "write_side_by_side_png",
    "write_uncertainty_tiff",
]

_WIDTH_IN = 6.4
_DPI = 150


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
    _save(path, [[crop(amplitude_panel(object_, coverage > 0, title, origin_px))]])


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
    write_bytes(path, phase_png(object_, coverage, title=title, origin_px=origin_px))


def phase_png(
    object_: Complex,
    coverage: npt.NDArray[np.floating],
    *,
    title: str = "Phase",
    origin_px: tuple[float, float] = (0.0, 0.0),
) -> bytes:
    """Draw what `write_phase_png` writes."""
    return _drawn([[crop(phase_panel(object_, coverage > 0, title, origin_px))]])


def coverage_png(
    coverage: npt.NDArray[np.floating], *, title: str = "Coverage", origin_px: tuple[float, float] = (0.0, 0.0)
) -> bytes:
    """Draw the light that fell on each pixel, as a share of the most.

    Args:
        coverage: (H, W), 0 where nothing was measured; such pixels are hatched.
        title: above the image.
        origin_px: (y, x) of pixel [0, 0], so that the axes read in the frame of the positions.
    """
    most = float(coverage.max()) or 1.0
    values = np.where(coverage > 0, coverage / most, np.nan).astype(np.float64)
    panel = Panel(
        values=values,
        title=title,
        unit="light / most light",
        colours="magma",
        limits=(0.0, 1.0),
        extent_px=extent(values, origin_px),
    )
    return _drawn([[crop(panel)]])


def write_probe_png(probe: Complex, path: str | Path, *, title: str = "Probe") -> None:
    """Write the modulus and phase of every probe mode, on one scale; the phase only where there is light.

    Args:
        probe: (modes, N, N) complex, in square roots of photons.
        path: PNG file; written atomically.
        title: above the images.
    """
    _save(path, probe_panels(probe, title=title))


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
    amplitudes = [crop(amplitude_panel(array, mask, f"{name}: amplitude", (0.0, 0.0))) for name, array in both]
    phases = [crop(phase_panel(array, mask, f"{name}: phase", (0.0, 0.0))) for name, array in both]
    heading = "   ".join(f"{name} {value:.4g}" for name, value in (figures or {}).items())
    _save(path, [on_one_scale(amplitudes), on_one_scale(phases)], heading=heading)


def write_side_by_side_png(comparisons: Mapping[str, Comparison], path: str | Path) -> None:
    """Write several results beside the reference that they are registered to, amplitude above phase, on shared scales.

    Args:
        comparisons: with one reference, by a name.
        path: PNG file; written atomically.
    """
    last = list(comparisons.values())[-1]
    shown = [
        *((name, each.reconstruction, each.mask, each.origin_px) for name, each in comparisons.items()),
        ("Reference", last.reference, last.mask, last.origin_px),
    ]
    amplitudes = [crop(amplitude_panel(array, mask, f"{name}: amplitude", at)) for name, array, mask, at in shown]
    phases = [crop(phase_panel(array, mask, f"{name}: phase", at)) for name, array, mask, at in shown]
    of_phase = "   ".join(f"{name} {each.phase_correlation:.4g}" for name, each in comparisons.items())
    _save(path, [on_one_scale(amplitudes), on_one_scale(phases)], heading=f"phase correlation: {of_phase}")


def write_complex_tiff(array: Complex, path: str | Path) -> None:
    """Write an array as complex64 TIFF, one page per leading index; atomic.

    Args:
        array: (..., H, W) complex.
        path: TIFF file.
    """
    import tifffile  # noqa: PLC0415 - only who writes a TIFF needs it

    with atomic_path(path) as partial:
        tifffile.imwrite(partial, array.astype(np.complex64, copy=False))


def write_uncertainty_tiff(uncertainty: Uncertainty, path: str | Path) -> None:
    """Write standard deviations of phase [rad] and amplitude, and the prior's share, as pages of float32; atomic.

    Args:
        uncertainty: of an object.
        path: TIFF file.
    """
    import tifffile  # noqa: PLC0415 - only who writes a TIFF needs it

    pages = np.stack([uncertainty.phase_std_rad, uncertainty.amplitude_std, uncertainty.prior_share])
    labels = {"Labels": ["phase_std_rad", "amplitude_std", "prior_share"]}
    with atomic_path(path) as partial:
        tifffile.imwrite(partial, pages, photometric="minisblack", metadata=labels)


def _save(path: str | Path, rows: list[list[Panel]], *, heading: str = "") -> None:
    write_bytes(path, _drawn(rows, heading=heading))


def _drawn(rows: list[list[Panel]], *, heading: str = "") -> bytes:
    height, width = rows[0][0].values.shape
    panel_height = _WIDTH_IN * min(max(height / width, 0.35), 2.0) * 0.82 + 0.7
    size = (_WIDTH_IN * len(rows[0]), panel_height * len(rows) + (0.4 if heading else 0.0))
    figure = blank(size, dpi=_DPI)
    for axes, panel in zip(
        figure.subplots(len(rows), len(rows[0]), squeeze=False).ravel(),
        [panel for row in rows for panel in row],
        strict=True,
    ):
        draw(figure, axes, panel)
    if heading:
        figure.suptitle(heading, fontsize=11)
    picture = io.BytesIO()
    write_png(figure, picture)
    return picture.getvalue()
