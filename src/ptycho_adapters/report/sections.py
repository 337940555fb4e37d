"""The pictures of a report, section by section, and by name what cannot be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.plotting.complex_colours import draw_complex
from ptycho_adapters.plotting.curves import LossCurves, draw_losses, draw_position_map, draw_ring_correlation
from ptycho_adapters.plotting.panels import (
    Panel,
    amplitude_panel,
    crop,
    draw,
    extent,
    on_one_scale,
    overflow,
    phase_panel,
    robust_limits,
)
from ptycho_adapters.report.content import Omission, Picture, Section
from ptycho_adapters.report.svg import inline_svg
from ptycho_adapters.wording import length_in_words, quanta
from ptycho_core.results.run_details import RunDetails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ptycho_adapters.report.content import Report
    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.product import Product

_WIDTH_IN = 4.6
_IMAGE_SHARE = 0.72  # of a figure's width, beside the tick labels and the colour bar
_CURVE_IN = (_WIDTH_IN, 3.3)
_BRIGHT_PERCENT = 99.5
_BY_STEP = "Mean over a few steps of the training; held out: at the end of each epoch."
_WELL_COVERED = 0.1  # of the largest coverage: what lies below is shown, but does not set the scale


def sections(report: Report) -> tuple[Section, ...]:
    """Draw everything that is known."""
    parts = [] if report.product is None else [_object(report.product), _probe(report.product)]
    parts.append(_fit(report.product))
    parts.append(_agreement(report.comparison, report.product))
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
        _image("amplitude", amplitude, f"Modulus of the object.{hatched}{pixel}"),
        _image("phase", phase, f"Phase of the object about its mean; a constant phase is free.{hatched}"),
        _complex_object(product, covered),
    ]
    omissions = []
    if product.coverage is None:
        omissions.append(Omission(name="coverage", reason="the result does not say what was measured"))
    else:
        pictures.append(_coverage(product.coverage, origin, quanta(product.wavelength_m)))
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
    return _painted("complex", paint, turned.shape, "Complex object", caption)


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
    return _image("coverage", panel, "Light that fell on each pixel, summed over the scan.")


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
        yield _painted(f"probe-{stage}-{k}", paint, mode.shape, f"Probe {name}", caption)


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
    return _painted("residuals", paint, (float(height), float(width)), "Residual per position", caption)


def _losses(product: Product) -> Picture:
    losses, unit = _loss_curves(product), "" if product.run is None else product.run.loss_unit

    def paint(figure: Figure) -> None:
        draw_losses(figure.subplots(), losses, unit=unit or "loss")

    svg = inline_svg(paint, size_in=_CURVE_IN, name="losses", label=f"Loss curves over the {losses.over}s")
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


def _agreement(comparison: Comparison | None, product: Product | None) -> Section:
    title = "Agreement with a reference"
    if comparison is None:
        reason = "no reference was given; ptycho evaluate compares with one"
        names = ("Fourier ring correlation", "comparison with a reference")
        return Section(title=title, pictures=(), omissions=tuple(Omission(name=name, reason=reason) for name in names))
    return Section(title=title, pictures=(_rings(comparison, product), *_comparison_images(comparison)))


def _rings(comparison: Comparison, product: Product | None) -> Picture:
    rings = {"complex": comparison.ring, "phase": comparison.phase_ring}

    def paint(figure: Figure) -> None:
        draw_ring_correlation(figure.subplots(), rings)

    caption = "On the largest square inside the compared area."
    pixel_m = None if product is None else product.pixel_size_m
    if pixel_m is not None:
        half_period = length_in_words(pixel_m / (2.0 * comparison.ring.frc50_per_px))
        caption += f" 1/2 is reached at a half period of {half_period}."
    svg = inline_svg(paint, size_in=_CURVE_IN, name="frc", label="Fourier ring correlation with thresholds")
    return Picture(title="Fourier ring correlation", caption=caption, svg=svg)


def _comparison_images(comparison: Comparison) -> Iterator[Picture]:
    both = {"result": comparison.reconstruction, "reference": comparison.reference}
    mask, origin = comparison.mask, comparison.origin_px
    scores = {"amplitude": comparison.amplitude_correlation, "phase": comparison.phase_correlation}
    for kind, make in (("phase", phase_panel), ("amplitude", amplitude_panel)):
        titles = {name: f"{kind}, {name}".capitalize() for name in both}
        panels = on_one_scale([make(array, mask, titles[name], origin) for name, array in both.items()])
        for name, panel in zip(both, panels, strict=True):
            caption = f"Correlation of the two: {scores[kind]:.4f}. Shift, ramp, scale and constant phase are removed."
            yield _image(f"{kind}-{name}", panel, caption)


def _image(name: str, panel: Panel, caption: str) -> Picture:
    small = attrs.evolve(crop(panel), interpolation="auto")

    def paint(figure: Figure) -> None:
        draw(figure, figure.subplots(), small)

    return _painted(name, paint, small.values.shape, panel.title, caption)


def _painted(name: str, paint: Callable[[Figure], None], shape: tuple[float, ...], title: str, caption: str) -> Picture:
    """Draw something that has the proportions of an image."""
    ratio = min(max(shape[0] / shape[1], 0.35), 2.0)
    size = (_WIDTH_IN, _WIDTH_IN * _IMAGE_SHARE * ratio + 0.8)
    return Picture(title=title, caption=caption, svg=inline_svg(paint, size_in=size, name=name, label=title))


def _blank(values: NDArray[np.float64], origin_px: tuple[float, float]) -> Panel:
    return Panel(
        values=values, title="", unit="", colours="gray", limits=(0.0, 1.0), extent_px=extent(values, origin_px)
    )
