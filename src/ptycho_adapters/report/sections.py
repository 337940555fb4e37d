"""The pictures of a report, section by section, and by name what cannot be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.plotting.complex_colours import draw_complex
from ptycho_adapters.plotting.curves import LossCurves, draw_losses, draw_position_map, draw_prior_share
from ptycho_adapters.plotting.panels import (
    Panel,
    amplitude_panel,
    crop,
    extent,
    overflow,
    phase_panel,
    robust_limits,
)
from ptycho_adapters.report.content import Omission, Picture, Section
from ptycho_adapters.report.drawn import CURVE_IN, image, painted
from ptycho_adapters.report.stages import stages
from ptycho_adapters.report.svg import inline_svg
from ptycho_adapters.wording import length_in_words, quanta
from ptycho_core.results.run_details import RunDetails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ptycho_adapters.report.content import Report
    from ptycho_core.results.product import Product
    from ptycho_core.results.uncertainty import PriorByFrequency, Uncertainty

_BRIGHT_PERCENT = 99.5
_BY_STEP = "Mean over a few steps of the training; held out: at the end of each epoch."
_NYQUIST = 0.5
_WELL_COVERED = 0.1  # of the largest coverage: what lies below is shown, but does not set the scale


def sections(report: Report) -> tuple[Section, ...]:
    """Draw everything that is known."""
    parts = [] if report.product is None else [_object(report.product), _probe(report.product)]
    parts.append(_fit(report.product))
    parts += stages(report)
    return tuple(parts)


def _object(product: Product) -> Section:
    known = product.coverage is not None
    whole = np.ones(product.object.shape, dtype=bool)
    covered = whole if product.coverage is None else product.coverage > 0
    well = whole if product.coverage is None else product.coverage > _WELL_COVERED * product.coverage.max()
    origin = product.origin_px
    amplitude = _scaled_by(amplitude_panel(product.object, covered, "Amplitude", origin), well)
    phase = _scaled_by(phase_panel(product.object, covered, "Phase", origin), well)
    pixel = "" if product.pixel_size_m is None else f" One pixel is {length_in_words(product.pixel_size_m)}."
    hatched = " Hatched: not measured." if known else ""
    pictures = [
        image("amplitude", amplitude, f"Modulus of the object.{hatched}{pixel}"),
        image("phase", phase, f"Phase of the object about its mean; a constant phase is free.{hatched}"),
        _complex_object(product, covered),
    ]
    omissions = []
    if product.coverage is None:
        omissions.append(Omission(name="coverage", reason="the result does not say what was measured"))
    else:
        pictures.append(_coverage(product.coverage, origin, quanta(product.wavelength_m)))
    if product.uncertainty is not None:
        pictures.append(_phase_std(product.uncertainty, covered, well, origin))
        if product.uncertainty.by_frequency is not None:
            pictures.append(_prior_share(product.uncertainty.by_frequency))
    return Section(title="Object", pictures=tuple(pictures), omissions=tuple(omissions))


def _scaled_by(panel: Panel, pixels: NDArray[np.bool_]) -> Panel:
    """Let some pixels set the ends of the colour bar, unless these are the ends of a cycle."""
    if panel.colours == "twilight":
        return panel
    limits = robust_limits(np.where(pixels, panel.values, np.nan))
    return attrs.evolve(panel, limits=limits, extend=overflow(panel.values, limits))


def _complex_object(product: Product, covered: NDArray[np.bool_]) -> Picture:
    modulus = np.abs(product.object[covered])
    bright = float(np.percentile(modulus, _BRIGHT_PERCENT)) if modulus.size else 1.0
    # A mask of 0 and NaN lets the cropping of panels choose the box.
    box = crop(_blank(np.where(covered, 0.0, np.nan), product.origin_px))
    left, _, _, top = box.extent_px
    row, column = round(top + 0.5 - product.origin_px[0]), round(left + 0.5 - product.origin_px[1])
    window = np.s_[row : row + box.values.shape[0], column : column + box.values.shape[1]]
    mean = np.angle(np.sum(product.object[covered], dtype=np.complex128))
    turned = (product.object[window] * np.exp(-1j * mean)).astype(np.complex64)

    def paint(figure: Figure) -> None:
        draw_complex(
            figure.subplots(),
            turned,
            covered[window],
            title="Complex object",
            brightest=bright,
            origin_px=(top + 0.5, left + 0.5),
        )

    caption = "Hue: phase about the mean; brightness: modulus, as the wheel says."
    return painted("complex", paint, turned.shape, "Complex object", caption)


def _coverage(coverage: NDArray[np.float32], origin_px: tuple[float, float], what: str) -> Picture:
    light = np.where(coverage > 0, coverage, np.nan).astype(np.float64)
    lit = light[np.isfinite(light)]
    panel = Panel(
        values=light,
        title="Coverage",
        unit=f"{what} per px",
        colours="magma",
        limits=(0.0, float(lit.max()) if lit.size else 1.0),
        extent_px=extent(light, origin_px),
    )
    return image("coverage", panel, "Light that fell on each pixel, summed over the scan.")


def _phase_std(
    bars: Uncertainty, covered: NDArray[np.bool_], well: NDArray[np.bool_], origin_px: tuple[float, float]
) -> Picture:
    values = np.where(covered & np.isfinite(bars.phase_std_rad), bars.phase_std_rad, np.nan).astype(np.float64)
    limits = robust_limits(np.where(well, values, np.nan))
    panel = Panel(
        values=values,
        title="Standard deviation of the phase",
        unit="rad",
        colours="viridis",
        limits=limits,
        extent_px=extent(values, origin_px),
        extend=overflow(values, limits),
    )
    share = float(np.median(bars.prior_share[well]))
    told = f"Given the probe; a constant phase is free. The network says {share:.2g} of what is known (median)."
    return image("phase-std", panel, told)


def _prior_share(known: PriorByFrequency) -> Picture:
    def paint(figure: Figure) -> None:
        draw_prior_share(figure.subplots(), known)

    caption = (
        "Of the waves of each ring, the share that the network decides; the counts decide the rest. "
        f"The network says more of the phase from {known.half_phase_per_px:.2g} cycles per px on."
        if known.half_phase_per_px < _NYQUIST
        else "Of the waves of each ring, the share that the network decides; the counts decide the rest, and most of "
        "the phase at all frequencies."
    )
    svg = inline_svg(paint, size_in=CURVE_IN, name="prior-share", label="Share that the network decides")
    return Picture(title="What the network decides", caption=caption, svg=svg)


def _probe(product: Product) -> Section:
    before = None if product.run is None else product.run.first_probe
    omissions = []
    if before is None:
        reason = "the probe was not refined, or the result does not hold its beginning"
        omissions.append(Omission(name="probe before", reason=reason))
    stages = {"after": product.probe} if before is None else {"before": before, "after": product.probe}
    brightest = max(float(np.abs(probe).max()) for probe in stages.values())
    what = quanta(product.wavelength_m)
    pictures = tuple(
        picture for stage, probe in stages.items() for picture in _probe_pictures(stage, probe, brightest, what)
    )
    return Section(title="Probe", pictures=pictures, omissions=tuple(omissions))


def _probe_pictures(stage: str, probe: NDArray[np.complex64], brightest: float, what: str) -> Iterator[Picture]:
    power = np.sum(np.square(np.abs(probe.astype(np.complex128))), axis=(1, 2))
    for k, (mode, share) in enumerate(zip(probe, power / power.sum(), strict=True)):
        name = stage if len(probe) == 1 else f"{stage}, mode {k}"

        def paint(figure: Figure, mode: NDArray[np.complex64] = mode, name: str = name) -> None:
            whole = np.ones(mode.shape, dtype=bool)
            draw_complex(figure.subplots(), mode, whole, title=f"Probe {name}", brightest=brightest)

        caption = f"{power[k]:.3g} {what} per frame, {share:.1%} of the power. The modulus is in √{what} per px."
        yield painted(f"probe-{stage}-{k}", paint, mode.shape, f"Probe {name}", caption)


def _fit(product: Product | None) -> Section:
    pictures: list[Picture] = []
    omissions: list[Omission] = []
    run = None if product is None else product.run
    if product is None or run is None or run.r_factors is None:
        omissions.append(Omission(name="residual per position", reason="the result does not hold it"))
    else:
        pictures.append(_residuals(product, run.r_factors))
    if product is None or not len(product.loss_values):
        omissions.append(Omission(name="loss curves", reason="the result holds no history of a training"))
    else:
        pictures.append(_losses(product))
        if run is None or run.held_out_losses is None or not np.isfinite(run.held_out_losses).any():
            omissions.append(Omission(name="held-out loss", reason="nothing was held out, or it was not recorded"))
    return Section(title="Fit to the data", pictures=tuple(pictures), omissions=tuple(omissions))


def _residuals(product: Product, r_factors: NDArray[np.float64]) -> Picture:
    def paint(figure: Figure) -> None:
        draw_position_map(
            figure, figure.subplots(), product.positions_px, r_factors, title="Residual per position", unit="R-factor"
        )

    height, width = np.maximum(np.ptp(product.positions_px, axis=0), 1.0)
    caption = (
        f"R-factor of each pattern, Σ|√expected − √measured| / Σ√measured: {r_factors.min():.3f} to "
        f"{r_factors.max():.3f}, median {np.median(r_factors):.3f}."
    )
    return painted("residuals", paint, (float(height), float(width)), "Residual per position", caption)


def _losses(product: Product) -> Picture:
    losses, unit = _loss_curves(product), "" if product.run is None else product.run.loss_unit

    def paint(figure: Figure) -> None:
        draw_losses(figure.subplots(), losses, unit=unit or "loss")

    svg = inline_svg(paint, size_in=CURVE_IN, name="losses", label=f"Loss curves over the {losses.over}s")
    means = "Mean over each epoch of the training." if losses.over == "epoch" else _BY_STEP
    return Picture(title="Loss", caption=means, svg=svg)


def _loss_curves(product: Product) -> LossCurves:
    """Give the losses over the steps of the training where these are known, else over its epochs."""
    run = RunDetails() if product.run is None else product.run
    ends, held_out = product.loss_epochs + 1.0, run.held_out_losses
    curves = {"training": (ends.tolist(), product.loss_values.tolist())}
    over, steps, losses = "epoch", run.loss_steps, run.step_losses
    if run.epoch_steps is not None and steps is not None and losses is not None and len(steps):
        over, ends = "step", run.epoch_steps
        curves["training"] = (steps.tolist(), losses.tolist())
    if held_out is not None and np.isfinite(held_out).any():
        curves["held out"] = (ends.tolist(), held_out.tolist())
    return LossCurves(over=over, curves=curves)


def _blank(values: NDArray[np.float64], origin_px: tuple[float, float]) -> Panel:
    return Panel(
        values=values, title="", unit="", colours="gray", limits=(0.0, 1.0), extent_px=extent(values, origin_px)
    )
