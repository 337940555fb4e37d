"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from markupsafe import Markup

from ptycho_core.results.metrics import Comparison
from ptycho_core.results.product import Product


@attrs.frozen(kw_only=True)
class SettingRow:
    """One setting of the run.

    Attributes:
        name: its key.
        value: as it would be typed; None where it was not recorded.
        unit: of the value; empty for pure numbers.
        source: where it came from, in words.
        section: what it belongs to.
        chosen: whether a person chose it.
    """

    name: str
    value: str | None
    unit: str
    source: str
    section: str
    chosen: bool


@attrs.frozen(kw_only=True, eq=False)
class Report:
    """What is reported; unknown parts are None or empty, and the page names them.

    Attributes:
        title: one line about what was done.
        command: that made it.
        headline: the few figures that matter most, as shown.
        figures: numbers and words by name, as shown.
        inputs: files that it was made from, by name.
        product: the result.
        comparison: the result against a reference.
        settings: of the run that made the result.
        code_version: version of the code that made the report.
        findings: what may be wrong with the scan or the fit, or was put right, in words.
        decisions: what the command decided by itself, and why, in words.
        first_comparison: the network's object, before a finish changed it, against the same reference.
    """

    title: str
    command: str
    headline: Mapping[str, str]
    figures: Mapping[str, str]
    inputs: Mapping[str, str]
    product: Product | None
    comparison: Comparison | None
    settings: Sequence[SettingRow]
    code_version: str
    findings: Sequence[str] = ()
    decisions: Sequence[str] = ()
    first_comparison: Comparison | None = None


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """A figure of the page.

    Attributes:
        title: above it.
        caption: below it.
        svg: the element.
        wide: whether it takes the full width.
    """

    title: str
    caption: str
    svg: Markup
    wide: bool = False


@attrs.frozen(kw_only=True)
class Omission:
    """What a report leaves out, and why."""

    name: str
    reason: str


@attrs.frozen(kw_only=True)
class Figures:
    """A table of figures.

    Attributes:
        columns: above them.
        rows: one figure for each column, as shown, by name.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]


@attrs.frozen(kw_only=True, eq=False)
class Section:
    """A part of the page: what it shows and what it leaves out."""

    title: str
    pictures: tuple[Picture, ...]
    omissions: tuple[Omission, ...] = ()
    figures: Figures | None = None
