"""A report in a real browser: no complaint, no request, readable in both colour schemes and on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from matplotlib.image import imread

import browser
from ptycho_adapters.report import render_report
from report_sample import comparison, finished_product, report_about

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is a browser")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report = report_about(finished_product(), comparison(), first=comparison())
    report = attrs.evolve(report, decisions=("finish: kept", f"model: {'/a_long_path' * 30}, as asked"))
    path.write_text(render_report(report), encoding="utf-8")
    return path


@pytest.mark.parametrize(("dark", "width_px"), [(False, 1300), (True, 390)])
def test_a_browser_shows_the_report_without_complaint(page: Path, tmp_path: Path, dark: bool, width_px: int) -> None:
    """The console is silent, only the file itself is asked for, nothing is wider than the window, the scheme is met."""
    seen = browser.visit(page, dark=dark, width_px=width_px, screenshot=tmp_path / "page.png")

    assert seen.messages == ()
    assert [address for address in seen.requests if not address.startswith("data:")] == [page.as_uri()]
    assert seen.overflow_px <= 0
    picture = imread(tmp_path / "page.png")[..., :3]
    assert picture.shape[1] >= width_px - 20
    assert bool(picture[5, 5].mean() < 0.3) is dark
    assert picture.std() > 0.05


def test_a_browser_tells_what_is_wrong(tmp_path: Path) -> None:
    """The check can fail: a script error and a foreign address are seen."""
    path = tmp_path / "bad.html"
    path.write_text('<script>throw new Error("oh")</script><img src="http://example.invalid/a.png">')

    seen = browser.visit(path, dark=False, width_px=800, screenshot=tmp_path / "page.png")

    assert any("oh" in message for message in seen.messages)
    assert "http://example.invalid/a.png" in seen.requests
