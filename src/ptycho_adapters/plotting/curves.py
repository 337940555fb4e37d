"""Curves and maps over the positions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing import Protocol

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from ptycho_core.results.ring_correlation import RingCorrelation
    from ptycho_core.results.uncertainty import PriorByFrequency

    class _Epoch(Protocol):
        """The losses of one epoch."""

        @property
        def epoch(self) -> int: ...
        @property
        def train(self) -> float: ...
        @property
        def validation(self) -> float | None: ...
        @property
        def steps(self) -> int: ...

    class _Step(Protocol):
        """The training loss of some steps."""

        @property
        def step(self) -> int: ...
        @property
        def train(self) -> float: ...


Real = npt.NDArray[np.float64]

_FEW = 40
_MOST_DOTS, _IN_A_CELL = 20_000, 12  # of positions that are drawn one by one; of those beyond, in each cell


@attrs.frozen(kw_only=True)
class LossCurves:
    """Losses over a training.

    Attributes:
        over: what they are drawn over: "epoch" or "step", counted from 1.
        curves: where, and the losses there, by name; not a number where there is none.
    """

    over: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]


def training_curves(history: Sequence[_Epoch], step_losses: Sequence[_Step]) -> LossCurves:
    """Give the losses of a training over its steps, those on what was held out at the end of each epoch.

    Args:
        history: losses by epoch.
        step_losses: training losses by step; where there are none, those of the epochs are given over the epochs.
    """
    held_out = [row for row in history if row.validation is not None]
    ends = [row.steps if step_losses else row.epoch + 1 for row in held_out]
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "training": ([row.step for row in step_losses], [row.train for row in step_losses])
        if step_losses
        else ([row.epoch + 1 for row in history], [row.train for row in history])
    }
    if held_out:
        curves["held out"] = (ends, [math.nan if row.validation is None else row.validation for row in held_out])
    return LossCurves(over="step" if step_losses else "epoch", curves=curves)


def draw_losses(axes: Axes, losses: LossCurves, *, unit: str) -> None:
    """Draw loss curves; logarithmic where every loss is positive, with marks where a curve has few points.

    Args:
        axes: to draw into.
        losses: the curves.
        unit: of the losses.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - matplotlib takes half a second

    for name, (where, values) in losses.curves.items():
        axes.plot(where, values, label=name, marker="o" if len(where) < _FEW else "", markersize=4.0)
    shown = [loss for _, values in losses.curves.values() for loss in values if np.isfinite(loss)]
    if shown and min(shown) > 0:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(losses.over)
    axes.set_ylabel(unit)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()


def draw_ring_correlation(axes: Axes, rings: Mapping[str, RingCorrelation]) -> None:
    """Draw Fourier ring correlations in their bands of 95 %, with both thresholds; the half-bit one of the first curve.

    Args:
        axes: to draw into.
        rings: by name; at least one.
    """
    for name, ring in rings.items():
        label = f"{name}: 1/2 at {ring.frc50_per_px:.3f} per px"
        (line,) = axes.plot(ring.frequency_per_px, ring.correlation, label=label)
        axes.fill_between(ring.frequency_per_px, *ring.band(), color=line.get_color(), alpha=0.2, linewidth=0)
    first = next(iter(rings.values()))
    axes.axhline(0.5, linestyle=":", color=axes.xaxis.label.get_color(), label="threshold 0.5")
    axes.plot(
        first.frequency_per_px,
        first.half_bit,
        linestyle="--",
        color=axes.xaxis.label.get_color(),
        label=f"half-bit threshold, at {first.half_bit_per_px:.3f} per px",
    )
    low = min(float(ring.correlation.min()) for ring in rings.values())
    axes.set(xlim=(0.0, 0.5), ylim=(min(-0.05, low - 0.05), 1.05))
    axes.set_xlabel("spatial frequency / cycles per px (Nyquist: 0.5)")
    axes.set_ylabel("Fourier ring correlation")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def draw_prior_share(axes: Axes, known: PriorByFrequency) -> None:
    """Draw by spatial frequency how much of an object the network decides, and not the counts.

    Args:
        axes: to draw into.
        known: the shares.
    """
    for name, share in (("phase", known.phase), ("amplitude", known.amplitude)):
        axes.plot(known.frequency_per_px, share, label=name, marker="o", markersize=3.0)
    axes.axhline(0.5, linestyle=":", color=axes.xaxis.label.get_color())
    axes.set(xlim=(0.0, 0.5), ylim=(-0.02, 1.02))
    axes.set_xlabel("spatial frequency / cycles per px (Nyquist: 0.5)")
    axes.set_ylabel("share that the network decides")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def draw_position_map(figure: Figure, axes: Axes, positions_px: Real, values: Real, *, title: str, unit: str) -> None:
    """Draw one value per position where it was taken; of very many the means over small areas.

    Args:
        figure: that the axes belong to.
        axes: to draw into.
        positions_px: (n, 2), (y, x).
        values: (n,).
        title: above the map.
        unit: of the values.
    """
    y, x = positions_px.T
    dots: ScalarMappable
    if len(values) > _MOST_DOTS:
        dots = _draw_means(axes, positions_px, values)
    else:
        size = float(np.clip(6000.0 / max(len(values), 1), 6.0, 60.0))
        dots = axes.scatter(x, y, c=values, s=size, cmap="viridis", linewidths=0)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("x / px")
    axes.set_ylabel("y / px")
    axes.grid(visible=True, alpha=0.25)
    figure.colorbar(dots, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0))).set_label(unit)


def _draw_means(axes: Axes, positions_px: Real, values: Real) -> ScalarMappable:
    """Draw the mean of the values in each cell of a grid, about a dozen positions in one."""
    (top, left), (bottom, right) = positions_px.min(axis=0) - 0.5, positions_px.max(axis=0) + 0.5
    side = math.sqrt((bottom - top) * (right - left) * _IN_A_CELL / len(values))
    edges = [
        np.linspace(low, high, 1 + max(1, round((high - low) / side))) for low, high in ((top, bottom), (left, right))
    ]
    totals, counts = (
        np.histogram2d(positions_px[:, 0], positions_px[:, 1], bins=edges, weights=weights)[0]
        for weights in (values, None)
    )
    means = np.ma.masked_array(totals / np.maximum(counts, 1.0), counts == 0.0)
    return axes.imshow(means, extent=(left, right, top, bottom), origin="lower", cmap="viridis")


def draw_positions(axes: Axes, positions_px: Real, *, patch_px: int) -> None:
    """Draw the path of a scan with the size of one patch.

    Args:
        axes: to draw into.
        positions_px: (n, 2), (y, x), in the order of the scan.
        patch_px: side of a patch.
    """
    y, x = positions_px.T
    axes.plot(x, y, linewidth=0.5, alpha=0.5)
    axes.plot(x, y, linestyle="", marker=".", markersize=3.0, color=axes.lines[0].get_color())
    axes.plot(x[:1], y[:1], linestyle="", marker="o", markersize=6.0, label="first")
    half = patch_px / 2.0
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half], [-half, -half]])
    axes.plot(x[0] + corners[:, 0], y[0] + corners[:, 1], linewidth=1.0, label=f"one patch, {patch_px} px")
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_title(f"{len(positions_px)} positions", fontsize=11)
    axes.set_xlabel("x / px")
    axes.set_ylabel("y / px")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def draw_flux(axes: Axes, photons: Real) -> None:
    """Draw the photons of each frame, in the order of the scan.

    Args:
        axes: to draw into.
        photons: (n,).
    """
    axes.plot(np.arange(len(photons)), photons, marker="." if len(photons) < _FEW else "", linewidth=0.9)
    axes.axhline(float(np.mean(photons)), linestyle=":", color=axes.xaxis.label.get_color(), label="mean")
    axes.set_title("Flux over the scan", fontsize=11)
    axes.set_xlabel("frame")
    axes.set_ylabel("photons per frame")
    axes.set_ylim(bottom=0.0)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8)
