"""Headless Chromium for tests: opens a local page and takes down what it says, asks for and looks like."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from selenium.webdriver import Chrome

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRIVERS = ("chromedriver", "chromium.chromedriver")
_ATTEMPTS = 3
_INSTALL = "apt-get install chromium chromium-driver"


@attrs.frozen(kw_only=True)
class Visit:
    """What happened when a page was opened.

    Attributes:
        messages: of the console, of any level.
        requests: addresses that were asked for.
        overflow_px: by how much the page is wider than the window.
        background: colour of the page, as CSS says it.
    """

    messages: tuple[str, ...]
    requests: tuple[str, ...]
    overflow_px: int
    background: str


def missing() -> str:
    """Say why there is no browser to test with; empty where there is one."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    if _found(_BROWSERS) is None or _found(_DRIVERS) is None:
        return f"no Chromium with its driver: {_INSTALL}"
    return ""


def visit(page: Path, *, dark: bool, width_px: int, screenshot: Path) -> Visit:
    """Open a local page in a fresh browser that cannot reach any other machine.

    Args:
        page: HTML file.
        dark: what the reader prefers.
        width_px: of the window.
        screenshot: PNG file to write, of the whole page.
    """
    from selenium.common.exceptions import TimeoutException  # noqa: PLC0415 - an optional package

    for _ in range(_ATTEMPTS - 1):
        # On a busy machine the browser may not answer its driver in time, which says nothing about the page.
        with suppress(TimeoutException):
            return _visit(page, dark=dark, width_px=width_px, screenshot=screenshot)
    return _visit(page, dark=dark, width_px=width_px, screenshot=screenshot)


def visit_all(pages: Sequence[Path], *, dark: bool, width_px: int, folder: Path) -> Iterator[tuple[Path, Visit]]:
    """Open local pages one after the other in one browser.

    Args:
        pages: HTML files.
        dark: what the reader prefers.
        width_px: of the window.
        folder: gets a PNG file for each.
    """
    with opened() as driver:
        for number, page in enumerate(pages):
            shot = folder / f"{number:03d}_{page.stem}_{width_px}_{'dark' if dark else 'light'}.png"
            yield page, seen(driver, page.as_uri(), dark=dark, width_px=width_px, screenshot=shot)


def search(page: Path, question: str, hit: str) -> list[str]:
    """Open a page that looks for something, and give the texts of what it found.

    Args:
        page: HTML file that takes the question as `?q=`.
        question: a word.
        hit: CSS selector of what was found.
    """
    from selenium.webdriver.common.by import By  # noqa: PLC0415 - an optional package
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    with opened() as driver:
        driver.get(f"{page.as_uri()}?q={question}")
        WebDriverWait(driver, 30).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, hit))
        return [found.text for found in driver.find_elements(By.CSS_SELECTOR, hit)]


def _visit(page: Path, *, dark: bool, width_px: int, screenshot: Path) -> Visit:
    with opened() as driver:
        return seen(driver, page.as_uri(), dark=dark, width_px=width_px, screenshot=screenshot)


def seen(driver: Chrome, address: str, *, dark: bool, width_px: int, screenshot: Path) -> Visit:
    """Open an address in a browser that is there.

    Args:
        driver: the browser.
        address: of a page.
        dark: what the reader prefers.
        width_px: of the window.
        screenshot: PNG file to write, of the whole page.
    """
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.get(address)
    screenshot.write_bytes(_whole_page(driver))
    return Visit(
        messages=messages_of(driver),
        requests=tuple(_requests(driver)),
        overflow_px=int(driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")),
        background=str(driver.execute_script("return getComputedStyle(document.body).backgroundColor")),
    )


def messages_of(driver: Chrome) -> tuple[str, ...]:
    """Give what the console said since it was last asked."""
    return tuple(str(entry["message"]) for entry in _log(driver, "browser"))


def _found(names: tuple[str, ...]) -> str | None:
    return next((path for path in map(shutil.which, names) if path), None)


@contextmanager
def opened() -> Iterator[Chrome]:
    """Start a browser that can reach this machine alone."""
    from selenium.webdriver import Chrome, ChromeOptions  # noqa: PLC0415 - an optional package
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    options = ChromeOptions()
    options.binary_location = str(_found(_BROWSERS))
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(executable_path=str(_found(_DRIVERS))))
    try:
        yield driver
    finally:
        driver.quit()


def _whole_page(driver: Chrome) -> bytes:
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415 - an optional package

    # On a busy machine a page may be there before it is laid out, and has no width then.
    laid_out = "return document.readyState === 'complete' && document.documentElement.getBoundingClientRect().width > 0"
    WebDriverWait(driver, 30).until(lambda driver: driver.execute_script(laid_out))
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
    return base64.b64decode(shot["data"])


def _log(driver: Chrome, kind: str) -> list[dict[str, str]]:
    read = cast("Callable[[str], list[dict[str, str]]]", driver.get_log)
    return read(kind)


def _requests(driver: Chrome) -> Iterator[str]:
    for entry in _log(driver, "performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield str(message["params"]["request"]["url"])
