"""A result beside what it came from and what it should be: pass, finished object, reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.plotting.curves import draw_ring_correlation
from ptycho_adapters.plotting.panels import amplitude_panel, on_one_scale, phase_panel
from ptycho_adapters.report.content import Figures, Omission, Picture, Section
from ptycho_adapters.report.drawn import CURVE_IN, image
from ptycho_adapters.report.svg import inline_svg
from ptycho_adapters.wording import length_in_words, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.figure import Figure

    from ptycho_adapters.report.content import Report
    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.product import Product
    from ptycho_core.results.ring_correlation import RingCorrelation

_PASS, _FINISHED = "pass", "finished"
_FIT = {
    "r_factor": "R-factor",
    "expected_r_factor": "R-factor that shot noise leaves",
    "deviance_per_px": "Poisson deviance per px",
    "expected_deviance_per_px": "deviance that shot noise leaves",
}
_AGREEMENT = {
    "phase_correlation": "phase correlation",
    "amplitude_correlation": "amplitude correlation",
    "phase_frc50_per_px": "phase FRC 1/2, per px",
}
_MAKERS = (("phase", phase_panel), ("amplitude", amplitude_panel))


def stages(report: Report) -> tuple[Section, ...]:
    """Draw pass, finished object and reference side by side, as far as they are known."""
    product, comparison, first = report.product, report.comparison, report.first_comparison
    parts = []
    if product is not None and product.run is not None and product.run.before_finish is not None and first is None:
        parts.append(_pass_and_finish(product))
    if comparison is None:
        parts.append(_without_reference())
    elif first is None:
        parts.append(_agreement({"result": comparison}, product, None))
    else:
        both = {_PASS: first, _FINISHED: comparison}
        figures = _figures(product, both)
        parts.append(_agreement(both, product, figures))
    return tuple(parts)


def _without_reference() -> Section:
    reason = "no reference was given; ptycho evaluate compares with one"
    names = ("Fourier ring correlation", "comparison with a reference")
    omissions = tuple(Omission(name=name, reason=reason) for name in names)
    return Section(title="Agreement with a reference", pictures=(), omissions=omissions)


def _pass_and_finish(product: Product) -> Section:
    before = None if product.run is None else product.run.before_finish
    whole = np.ones(product.object.shape, dtype=bool)
    covered = whole if product.coverage is None else product.coverage > 0
    both = {_PASS: product.object if before is None else before, _FINISHED: product.object}
    pictures = []
    for kind, make in _MAKERS:
        titles = {name: f"{kind}, {name}".capitalize() for name in both}
        panels = [make(array, covered, titles[name], product.origin_px) for name, array in both.items()]
        for name, panel in zip(both, on_one_scale(panels), strict=True):
            pictures.append(image(f"{kind}-{name}", panel, f"The {_words(name)}. Both on one scale."))
    return Section(title="Pass and finish", pictures=tuple(pictures), figures=_figures(product, {}))


def _words(stage: str) -> str:
    known = {_PASS: "network's object, before the finish", _FINISHED: "object after the finish"}
    return known.get(stage, stage)


def _figures(product: Product | None, comparisons: Mapping[str, Comparison]) -> Figures:
    """Set the figures of both stages side by side; what one of them lacks is a dash."""
    fit = {} if product is None else dict(product.metrics)
    rows = {
        words: tuple(_shown(fit.get(name)) for name in (f"pass_{figure}", figure)) for figure, words in _FIT.items()
    }
    for figure, words in _AGREEMENT.items() if comparisons else ():
        rows[words] = tuple(_shown(each.figures()[figure]) for each in comparisons.values())
    return Figures(columns=(_PASS, _FINISHED), rows=rows)


def _shown(value: float | None) -> str:
    return "-" if value is None else shown(value)


def _agreement(comparisons: Mapping[str, Comparison], product: Product | None, figures: Figures | None) -> Section:
    rings, images = _rings(comparisons, product), tuple(_comparison_images(comparisons))
    # Three images of a kind fill a row by themselves.
    pictures = (rings, *images) if len(comparisons) == 1 else (*images, rings)
    return Section(title="Agreement with a reference", pictures=pictures, figures=figures)


def _rings(comparisons: Mapping[str, Comparison], product: Product | None) -> Picture:
    rings: dict[str, RingCorrelation] = {}
    for name, comparison in comparisons.items():
        of = "" if len(comparisons) == 1 else f", {name}"
        rings |= {f"complex{of}": comparison.ring, f"phase{of}": comparison.phase_ring}
    last = list(comparisons.values())[-1]

    def paint(figure: Figure) -> None:
        draw_ring_correlation(figure.subplots(), rings)

    caption = (
        "On the largest square inside the compared area. Band: 95 %, by the independent coefficients of each ring."
    )
    pixel_m = None if product is None else product.pixel_size_m
    if pixel_m is not None:
        half_period = length_in_words(pixel_m / (2.0 * last.ring.frc50_per_px))
        caption += f" 1/2 is reached at a half period of {half_period}."
    svg = inline_svg(paint, size_in=CURVE_IN, name="frc", label="Fourier ring correlation with thresholds")
    return Picture(title="Fourier ring correlation", caption=caption, svg=svg)


def _comparison_images(comparisons: Mapping[str, Comparison]) -> Iterator[Picture]:
    last = list(comparisons.values())[-1]
    for kind, make in _MAKERS:
        name = f"{kind}_correlation"
        captions = {
            stage: f"Correlation with the reference: {shown(each.figures()[name])}."
            for stage, each in comparisons.items()
        }
        panels = [
            make(each.reconstruction, each.mask, f"{kind}, {stage}".capitalize(), each.origin_px)
            for stage, each in comparisons.items()
        ]
        panels.append(make(last.reference, last.mask, f"{kind}, reference".capitalize(), last.origin_px))
        captions["reference"] = "What it is compared with."
        for (stage, caption), panel in zip(captions.items(), on_one_scale(panels), strict=True):
            gauge = " Shift, ramp, scale and constant phase are removed."
            yield image(f"{kind}-{stage}", panel, caption + gauge)
