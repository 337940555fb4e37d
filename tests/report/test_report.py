"""Reports: everything known is shown, everything unknown is named, nothing comes from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import attrs
import matplotlib as mpl
import numpy as np
import pytest

from ptycho_adapters.plotting.figures import blank
from ptycho_adapters.plotting.panels import Panel, draw
from ptycho_adapters.report import render_report
from ptycho_adapters.report.svg import VARIABLES, inline_svg
from report_sample import bare_product, comparison, finished_product, full_product, report_about

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ptycho_core.results.product import Product


class Page(HTMLParser):
    """What a browser finds in a page: elements, attributes and texts, and whether elements are closed in order."""

    VOID = ("meta", "link", "br", "img", "hr", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.labels: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"href", "src", "xlink:href"}:
                self.addresses.append(value or "")
            if name == "id":
                self.identifiers.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def full() -> str:
    return render_report(report_about(full_product(), comparison()))


def test_everything_known_is_shown(full: str) -> None:
    """Each picture is there once, with a name for those who cannot see it, and nothing is left out."""
    page = Page(full)

    expected = ["Amplitude", "Phase", "Complex object", "Coverage", "Probe before", "Probe after"]
    expected += ["Residual per position", "Loss curves over the epochs", "Fourier ring correlation with thresholds"]
    expected += ["Phase, result", "Phase, reference", "Amplitude, result", "Amplitude, reference"]
    assert page.labels == expected
    assert "Not in this report" not in full
    assert not page.open


def test_pictures_say_what_they_show(full: str) -> None:
    """Thresholds, units, the wheel, the loss and the pixel size are words on the page."""
    text = " ".join(Page(full).texts)

    for words in ("threshold 0.5", "half-bit threshold", "phase / rad", "photons per px", "π/2", "modulus"):
        assert words in text
    assert "Poisson deviance per pixel" in text
    assert "held out" in text
    assert "One pixel is 5 nm" in text
    assert "R-factor" in text
    assert "0.1234" in text


@pytest.mark.parametrize(
    ("product", "left_out"),
    [
        (bare_product(), {"coverage", "probe before", "residual per position", "loss curves"}),
        (None, {"residual per position", "loss curves"}),
    ],
)
def test_what_is_unknown_is_named(product: Product | None, left_out: set[str]) -> None:
    """A result of foreign origin has a report that says what it lacks, and shows no picture of it."""
    page = render_report(report_about(product))

    named = set(re.findall(r"<li><strong>(.*?)</strong>", page))
    assert named == left_out | {"Fourier ring correlation", "comparison with a reference"}
    assert "Residual per position" not in page
    assert "Coverage" not in page


def test_pass_and_finish_stand_beside_each_other_on_one_scale() -> None:
    """Their figures in a table, and the same ends of the colour bar; what is not known is a dash."""
    page = render_report(report_about(finished_product()))

    labels = [label for label in Page(page).labels if label.endswith(("pass", "finished"))]
    assert labels == ["Phase, pass", "Phase, finished", "Amplitude, pass", "Amplitude, finished"]
    ends = re.findall(r"amplitude   \((\S+ to \S+)\)", page)
    assert len(ends) == 3
    assert ends[1] == ends[2] != ends[0]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="value">(.*?)</td><td class="value">(.*?)</td>', page)
    assert ("R-factor", "0.2345", "0.1234") in rows
    assert ("R-factor that shot noise leaves", "0.1112", "0.1111") in rows
    assert ("Poisson deviance per px", "-", "0.6") in rows


def test_decisions_open_the_page_and_say_everything_once(full: str) -> None:
    """They stand before the pictures; without any there is no such part."""
    decided = attrs.evolve(report_about(bare_product()), decisions=("finish: <kept>",))

    page = render_report(decided)

    assert page.index("finish: &lt;kept&gt;") < page.index("<svg")
    assert "What was decided" not in full


def test_a_run_without_held_out_patterns_says_so() -> None:
    """A curve of nothing but NaN is not drawn."""
    product = full_product()
    assert product.run is not None
    silent = attrs.evolve(product, run=attrs.evolve(product.run, held_out_losses=np.full(3, np.nan)))

    page = render_report(report_about(silent))

    assert "<strong>held-out loss</strong>" in page


def test_losses_are_drawn_over_the_steps_where_these_are_known() -> None:
    """One epoch is no single dot; where a step is not known, the epochs are drawn."""
    product = full_product()
    assert product.run is not None
    by_step = attrs.evolve(
        product.run, epoch_steps=[2, 4, 6], loss_steps=[1, 2, 3, 4, 5, 6], step_losses=[4.0, 3.0, 2.5, 2.0, 1.8, 1.5]
    )
    runs = (by_step, attrs.evolve(by_step, epoch_steps=None), attrs.evolve(by_step, loss_steps=[], step_losses=[]))

    labels = [Page(render_report(report_about(attrs.evolve(product, run=run)))).labels for run in runs]

    assert "Loss curves over the steps" in labels[0]
    assert all("Loss curves over the epochs" in other for other in labels[1:])


def test_the_page_holds_everything_itself(full: str) -> None:
    """No address leads out of the page, nothing runs, and every reference inside it is to one element."""
    page = Page(full)

    inside = [address.removeprefix("#") for address in page.addresses if address.startswith("#")]
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert inside
    assert set(inside) <= set(page.identifiers)
    assert set(re.findall(r"url\(#(.*?)\)", full)) <= set(page.identifiers)
    assert len(set(page.identifiers)) == len(page.identifiers)
    assert "script" not in page.tags
    assert not re.search(r"url\((?!#)|@import", full)


def test_figures_follow_the_colours_of_the_page(full: str) -> None:
    """No marker colour is left, and every variable that the figures use has a light and a dark value."""
    style, _, body = full.partition("</style>")
    assert not [marker for marker in VARIABLES if marker in body]
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", body))
    assert used
    light, _, dark = style.partition("prefers-color-scheme: dark")
    for variable in used:
        assert f"{variable}:" in light
        assert f"{variable}:" in dark.split("}")[0]


def test_every_setting_has_its_source(full: str) -> None:
    """Names, values with units and sources are in the table; what was chosen is marked, what is unknown is said."""
    rows = re.findall(
        r"<tr( class=\"chosen\")?><th scope=\"row\">(\w+)</th><td class=\"value\">(.*?)</td><td.*?>(.*?)<", full
    )

    assert (' class="chosen"', "epochs", "3", "command line") in rows
    assert ("", "N", "64 px", "scan") in rows
    assert ("", "seed", '<span class="quiet">not recorded</span>', "default") in rows


def test_texts_are_only_texts() -> None:
    """Names that look like HTML are shown, not obeyed."""
    page = render_report(report_about(None, title="<script>alert(1)</script>"))

    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "scan &lt;1&gt;.npz" in page


def test_equal_reports_are_equal_pages(full: str) -> None:
    """Neither a date nor a random identifier is in the page."""
    assert render_report(report_about(full_product(), comparison())) == full


def test_the_size_of_a_picture_is_not_that_of_its_data() -> None:
    """An image of nine million pixels is brought to the resolution of the page."""
    values = np.random.default_rng(2).uniform(size=(3000, 3000))

    def paint(figure: Figure) -> None:
        figure.subplots().imshow(values, interpolation="auto")

    assert len(inline_svg(paint, size_in=(4.0, 4.0), name="big", label="noise")) < 2e6


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    """Colours and fonts of the page are no settings of the process."""
    before = dict(mpl.rcParams)

    render_report(report_about(bare_product()))

    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("limits", [(0.9, 1.0), (1e3, 2.5e6)])
def test_labels_lie_within_their_picture(limits: tuple[float, float]) -> None:
    """Those of axes and colour bars, however wide the numbers, once the picture is drawn."""
    values = np.linspace(*limits, 93 * 92).reshape(93, 92)
    panel = Panel(
        values=values,
        title="Coverage",
        unit="photons per px",
        colours="magma",
        limits=limits,
        extent_px=(1000.0, 1093.0, 1092.0, 1000.0),
    )
    figure = blank((4.6, 4.1), dpi=72)
    draw(figure, figure.subplots(), panel)

    figure.draw_without_rendering()

    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) > 0.02
    assert (box.x1 < 4.58, box.y1 < 4.08) == (True, True)
