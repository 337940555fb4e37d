"""Reports of the commands: what `report.html` is told about a result."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.report.content import Report, SettingRow
from ptycho_adapters.setting_sections import SECTIONS, section_of
from ptycho_adapters.wording import shown, shown_value, source_in_words
from ptycho_core.config.overrides import Layer
from ptycho_core.config.table import EVERY, Table
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_adapters.report.summary import Summary
    from ptycho_core.results.metrics import Comparison
    from ptycho_core.results.product import Product

REPORT_NAME = "report.html"
_HEADLINE: Mapping[str, str] = MappingProxyType(
    {
        "r_factor": "R-factor",
        "expected_r_factor": "R-factor that shot noise leaves",
        "deviance_per_px": "Poisson deviance per px",
        "phase_correlation": "phase correlation",
        "amplitude_correlation": "amplitude correlation",
        "phase_frc50_per_px": "phase FRC 1/2, per px",
    }
)
_OTHER = "other"
_LAYERS = frozenset(map(str, Layer))


def report_of(
    summary: Summary, product: Product | None, comparison: Comparison | None = None, first: Comparison | None = None
) -> Report:
    """Put together what is known about a result.

    Args:
        summary: what the command says itself.
        product: the result; None where only an object is known.
        comparison: the result against a reference, if there is one.
        first: the network's object against it, where a finish changed that.
    """
    figures: dict[str, object] = {} if product is None else dict(product.metrics)
    figures |= dict(summary.figures)
    # What was put right is said once, with all that was decided.
    decided = {decision.text for decision in summary.decisions}
    held = () if product is None or product.run is None else product.run.findings
    return Report(
        title=summary.title,
        command=summary.command,
        headline={words: _figure(figures[name]) for name, words in _HEADLINE.items() if name in figures},
        figures={name: _figure(value) for name, value in figures.items()},
        inputs={name: str(path) for name, path in summary.inputs.items()},
        product=product,
        comparison=comparison,
        settings=() if product is None else tuple(setting_rows(product)),
        code_version=VERSION,
        findings=[finding.text for finding in summary.findings or held if finding.text not in decided],
        decisions=list(map(str, summary.decisions)),
        first_comparison=first,
    )


def settings_as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Return settings as they would be typed; arrays by their shape."""
    return {
        key: f"array {value.shape}" if isinstance(value, np.ndarray) else shown_value(value)
        for key, value in values.items()
    }


def setting_rows(product: Product) -> Iterator[SettingRow]:
    """Yield the settings of the run that made a product, section by section; values that it does not hold are None."""
    values = {} if product.run is None else product.run.settings
    known = {info.key: info for info in Table(*EVERY)}
    order = [*SECTIONS.values(), _OTHER]
    rows = []
    for key, source in product.provenance.items():
        info = known.get(key)
        layer = Layer(source) if source in _LAYERS else None
        rows.append(
            SettingRow(
                name=key,
                value=values.get(key),
                unit="" if info is None else info.unit,
                source=source if layer is None else source_in_words(layer),
                section=_OTHER if info is None else SECTIONS[section_of(info)],
                chosen=layer is not None and layer.chosen,
            )
        )
    yield from sorted(rows, key=lambda row: (order.index(row.section), row.name))


def _figure(value: object) -> str:
    return "none" if isinstance(value, float) and not math.isfinite(value) else shown(value)
