"""The page of a live run: who is let in, what it shows, and that it can end the stream."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import browser
from ptycho_adapters.cli import main
from ptycho_adapters.files import write_scan
from ptycho_adapters.live.access import Access, own_names
from ptycho_adapters.live.drawing import Drawing
from ptycho_adapters.live.onlookers import PageAddress, looking_on
from ptycho_adapters.live.page import LivePage
from ptycho_adapters.live.status import Board, Stage, Status
from ptycho_core.measurement.stream import StreamState
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.simulation.simulate import SimulationConfig, simulate
from report_sample import finished_product

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTES = ("/", "/state", "/phase.png", "/coverage.png", "/nothing", "/?token=wrong", "/state?token=wrong")


def state_of_a_scan() -> StreamState:
    """Frames 0 to 89 and 95 to 99, one of them late, and a source that has been empty for 7 seconds."""
    state = StreamState().arrived(np.arange(90), 1.0).arrived(np.arange(96, 100), 2.0).arrived(np.array([95]), 3.0)
    nothing = np.zeros(0, dtype=np.int64)
    return attrs.evolve(state.arrived(nothing, 4.0).arrived(nothing, 11.0), reconstructed=80, waiting=2, repeated=3)


def result() -> Reconstruction:
    product = finished_product()
    coverage = np.abs(product.object).astype(np.float32)
    return Reconstruction(
        object=product.object,
        coverage=coverage,
        origin_px=(0, 0),
        probe=product.probe,
        probe_source="scan",
        scale=1.0,
        positions_px=product.positions_px,
        given_positions_px=product.positions_px,
        pattern_indices=np.arange(len(product.positions_px)),
    )


@attrs.frozen
class Shown:
    page: LivePage
    stopped: threading.Event
    port: int
    token: str

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers={name.replace("_", "-"): said for name, said in headers.items()})
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Drawing:
    with Drawing(tmp_path_factory.mktemp("page") / "live.png", with_coverage=True) as drawing:
        drawing.show(result())
    return drawing


@pytest.fixture
def shown(pictures: Drawing) -> Iterator[Shown]:
    board = Board(Status(source="scan.h5", folder="out", expected=1000, r_factor=0.1234, lit_px=5))
    board.heard(state_of_a_scan())
    stopped = threading.Event()
    with LivePage(board, pictures, stop=stopped.set, port=0) as page:
        address, _, token = page.url.partition("/?token=")
        yield Shown(page, stopped, int(address.rpartition(":")[2]), token)
        page._looked_at_s = -1e9  # nobody waits for a farewell here


def test_everything_needs_the_token(shown: Shown) -> None:
    """Missing or wrong, on every route and in every place; the first that is given counts."""
    for route in ROUTES:
        assert shown.ask("GET", route)[0] == 403, route
        assert shown.ask("GET", route, Authorization="Bearer wrong")[0] == 403, route
        assert shown.ask("GET", route, Cookie=f"ptycho-live-{shown.port}=wrong\u00e4")[0] == 403, route
    assert shown.ask("GET", f"/?token={shown.token}", Authorization="Bearer wrong")[0] == 403
    assert shown.ask("GET", f"/state?token={shown.token}")[0] == 403, "only the page itself takes it in its address"
    assert shown.ask("POST", "/stop")[0] == 403
    assert not shown.stopped.is_set()
    assert shown.ask("GET", "/state", Authorization=f"Bearer {shown.token}")[0] == 200
    assert shown.ask("GET", "/nothing", Authorization=f"Bearer {shown.token}")[0] == 404


def test_the_token_in_the_address_becomes_a_cookie(shown: Shown) -> None:
    """One that scripts cannot read and other sites cannot use; what is answered may load nothing from elsewhere."""
    status, headers, page = shown.ask("GET", f"/?token={shown.token}")
    cookie = headers["Set-Cookie"]

    assert status == 200
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert shown.ask("GET", "/state", Cookie=cookie.partition(";")[0])[0] == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert shown.token.encode() not in page


def test_another_name_for_this_machine_is_refused(shown: Shown) -> None:
    """As a foreign page has it that lets its own name resolve to this machine."""
    right = {"Authorization": f"Bearer {shown.token}"}

    assert shown.ask("GET", "/state", Host="evil.example", **right)[0] == 403
    assert shown.ask("GET", "/state", Host="localhost:9000", **right)[0] == 200
    assert shown.ask("GET", "/state", Host="127.0.0.1", **right)[0] == 200


def test_only_the_page_itself_ends_the_stream(shown: Shown) -> None:
    """A cookie alone does not, nor does the page of another origin; a program with the token does."""
    own = {"Cookie": f"ptycho-live-{shown.port}={shown.token}"}
    for foreign in ({}, {"Origin": "http://evil.example"}, {"Origin": f"http://127.0.0.1:{shown.port + 1}"}):
        assert shown.ask("POST", "/stop", **own, **foreign)[0] == 403
    assert shown.ask("POST", "/stop", **own, Origin=f"http://127.0.0.1:{shown.port}", Sec_Fetch_Site="none")[0] == 403
    assert shown.ask("GET", "/stop", **own)[0] == 405
    assert not shown.stopped.is_set()
    assert shown.ask("POST", "/stop", **own, Origin=f"http://127.0.0.1:{shown.port}")[0] == 204
    assert shown.stopped.is_set()
    assert shown.ask("POST", "/stop", Authorization=f"Bearer {shown.token}")[0] == 204


def test_the_state_says_what_is_known(shown: Shown) -> None:
    """Numbers of the stream as the engine has them, and which picture is the newest."""
    state = json.loads(shown.ask("GET", "/state", Authorization=f"Bearer {shown.token}")[2])
    image = shown.ask("GET", "/phase.png", Authorization=f"Bearer {shown.token}")[2]

    wanted = {"stage": "measuring", "frames": 95, "expected": 1000, "missing": 5, "late": 1, "repeated": 3}
    wanted |= {"backlog": 17, "stalled": True, "silent_s": 7.0, "longest_silence_s": 7.0, "r_factor": 0.1234}
    assert {name: state[name] for name in wanted} == wanted
    assert state["picture"] == 1
    assert image.startswith(b"\x89PNG")


def test_a_port_that_is_taken_is_named(shown: Shown, pictures: Drawing, tmp_path: Path) -> None:
    """When the page begins, before anything else does."""
    address = PageAddress(port=shown.port)
    with (
        pytest.raises(OSError, match=f"port {shown.port} of 127.0.0.1 is taken"),
        looking_on(Status(source="a", folder="b"), tmp_path / "a.png", page=address, stop=shown.stopped.set),
    ):
        pass


def test_the_command_says_so_of_a_port_that_is_taken(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to type instead, and before a frame is read."""
    write_scan(simulate(SimulationConfig(object_size_px=90, step_px=9)), tmp_path / "like.npz")
    (tmp_path / "stream.h5").touch()
    line = ["live", "stream.h5", "--like", "like.npz", "--output-dir", "out"]
    words = [str(tmp_path / word) if word in {"stream.h5", "like.npz", "out"} else word for word in line]

    assert main([*words, "--page", str(shown.port)]) == 2
    assert f"port {shown.port} of 127.0.0.1 is taken; --page 0 takes any" in capsys.readouterr().err


def test_how_a_run_ended_is_told(pictures: Drawing) -> None:
    """Well, or not."""
    for wanted, error in ((Stage.ENDED, None), (Stage.FAILED, ValueError)):
        board = Board(Status(source="a", folder="b"))
        page = LivePage(board, pictures, stop=lambda: None, port=0)
        try:
            with page:
                if error is not None:
                    raise error
        except ValueError:
            pass
        assert board.status.stage is wanted


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """By whoever shows the next one, or ends."""
    with (
        pytest.raises(FileNotFoundError, match="No such folder"),
        Drawing(tmp_path / "none" / "live.png", with_coverage=False) as drawing,
    ):
        drawing.show(result())


@settings(max_examples=50, deadline=None)
@given(st.text("ab.:[]01@/-Ä", max_size=12))
def test_no_name_of_others_is_ours(name: str) -> None:
    """Whatever a header says: it is this machine's name or a numeric address, or it is refused."""
    access = Access(token="secret", names=own_names("127.0.0.1"))
    ours = name.partition(":")[0].lower() in {"localhost", "127.0.0.1"}
    numeric = all(part.isascii() for part in name) and not any(letter.isalpha() for letter in name)

    assert access.is_ours(name) <= (ours or numeric or ":" in name)
    assert not access.is_ours(f"{name or 'a'}x.example")
    assert not access.knows_token({}, asked=None, cookie=name)


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is a browser")
def test_a_browser_shows_the_run_and_ends_it(shown: Shown, tmp_path: Path) -> None:
    """No complaint, nothing from elsewhere, nothing wider than the window; the button asks, and ends the stream."""
    from selenium.webdriver.common.by import By  # noqa: PLC0415 - an optional package
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    own = f"http://127.0.0.1:{shown.port}/"
    with browser.opened() as driver:
        wait = WebDriverWait(driver, 60)
        for dark, width_px in ((False, 1300), (True, 390)):
            seen = browser.seen(
                driver, shown.page.url, dark=dark, width_px=width_px, screenshot=tmp_path / f"{width_px}.png"
            )
            assert seen.messages == ()
            elsewhere = [address for address in seen.requests if not address.startswith((own, "data:"))]
            assert elsewhere == []
            assert seen.overflow_px <= 0
            wait.until(lambda driver: driver.find_element(By.ID, "phase").is_displayed())
        text = driver.find_element(By.TAG_NAME, "main").text
        assert "No frame for 7 s" in text
        assert "of 1,000" in text
        assert shown.token not in driver.current_url
        driver.find_element(By.ID, "stop").click()
        driver.find_element(By.ID, "go-on").click()
        assert not shown.stopped.is_set()
        driver.find_element(By.ID, "stop").click()
        driver.find_element(By.ID, "end").click()
        wait.until(lambda driver: "Ending the stream" in driver.find_element(By.ID, "stage").text)
        assert shown.stopped.is_set()
        assert browser.messages_of(driver) == ()
