"""A web page about a run: a server in a thread of its own, which looks at the newest status and never waits for it."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import re
import threading
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Self

from ptycho_adapters.live.access import Access, new_token, own_names
from ptycho_adapters.live.extra import module
from ptycho_adapters.live.status import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from aiohttp.web import Application, Request, StreamResponse, TCPSite

    from ptycho_adapters.live.drawing import Drawing
    from ptycho_adapters.live.status import Board

    Handler = Callable[[Request], Awaitable[StreamResponse]]

DEFAULT_PORT = 8750
LOOPBACK = "127.0.0.1"
_COOKIE = "ptycho-live"
_ASKED = "token"
_LOOKED_ON_S = 5.0  # who asked so lately still looks on
_FAREWELL_S = 1.5  # in which they get the last state
_MOST_BYTES = 1024


class LivePage:
    """Serves the page while its block lasts.

    Everything needs the token: in the address once, then in a cookie that no other page can use; programs send it as
    `Authorization: Bearer TOKEN`. `/` is the page, `/state` JSON, `/phase.png` and `/coverage.png` pictures, and
    `POST /stop` ends the stream.

    Args:
        board: the newest status.
        drawing: the newest pictures.
        stop: ends the stream.
        host: name or address to listen on; others than loopback can be reached from the network, unencrypted.
        port: 0 for any that is free.

    Raises:
        DependencyError: the server library is not installed.
    """

    def __init__(
        self,
        board: Board,
        drawing: Drawing,
        *,
        stop: Callable[[], None],
        host: str = LOOPBACK,
        port: int = DEFAULT_PORT,
    ) -> None:
        module("aiohttp")
        self._board, self._drawing, self._stop = board, drawing, stop
        self._host, self._port = host, port
        self._access = Access(token=new_token(), names=own_names(host))
        self._ready, self._looked_at_s = threading.Event(), -_LOOKED_ON_S
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)

    @property
    def url(self) -> str:
        """Address to open, token included."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/?{_ASKED}={self._access.token}"

    def __enter__(self) -> Self:
        """Begin to serve.

        Raises:
            OSError: the port is taken, or the host is none of this machine.
        """
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell those who look on how it ended, and end."""
        self._board.reached(Stage.ENDED if error is None else Stage.FAILED)
        if time.monotonic() - self._looked_at_s < _LOOKED_ON_S:
            time.sleep(_FAREWELL_S)
        if self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _serve(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:  # noqa: BLE001 - raised by whoever began to serve
            self._failed = error
        finally:
            self._ready.set()

    async def _run(self) -> None:
        from aiohttp import web  # noqa: PLC0415 - an extra

        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self._application(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await self._listen(web.TCPSite(runner, self._host, self._port))
            self._port = runner.addresses[0][1]
            self._ready.set()
            await self._closing.wait()
        finally:
            await runner.cleanup()

    async def _listen(self, site: TCPSite) -> None:
        try:
            await site.start()
        except OSError as error:
            taken = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
            raise OSError(error.errno, f"port {self._port} of {self._host} {taken}") from None

    def _application(self) -> Application:
        from aiohttp import web  # noqa: PLC0415 - an extra

        @web.middleware
        async def guarded(request: Request, handler: Handler) -> StreamResponse:
            self._let_in(request)
            return await handler(request)

        application = web.Application(middlewares=[guarded], client_max_size=_MOST_BYTES)
        application.on_response_prepare.append(_with_headers)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/state", self._state),
                web.get("/phase.png", self._phase),
                web.get("/coverage.png", self._coverage),
                web.post("/stop", self._stopped),
            ]
        )
        return application

    def _let_in(self, request: Request) -> None:
        from aiohttp import web  # noqa: PLC0415 - an extra

        asked = request.query.get(_ASKED) if request.path == "/" else None
        if not self._access.is_ours(request.headers.get("Host")):
            raise web.HTTPForbidden(text="This is not the name of the machine that the page is on.\n")
        if not self._access.knows_token(request.headers, asked=asked, cookie=request.cookies.get(self._cookie)):
            raise web.HTTPForbidden(text="Open the address that the run printed: it ends in ?token=...\n")
        if request.method not in {"GET", "HEAD"} and not self._access.is_from_here(request.headers):
            raise web.HTTPForbidden(text="Only the page itself may ask for this.\n")

    @property
    def _cookie(self) -> str:
        # Cookies do not tell ports of a machine apart.
        return f"{_COOKIE}-{self._port}"

    async def _page(self, _request: Request) -> StreamResponse:
        from aiohttp import web  # noqa: PLC0415 - an extra

        response = web.Response(text=PAGE, content_type="text/html")
        response.set_cookie(self._cookie, self._access.token, httponly=True, samesite="Strict", path="/")
        return response

    async def _state(self, _request: Request) -> StreamResponse:
        from aiohttp import web  # noqa: PLC0415 - an extra

        self._looked_at_s = time.monotonic()
        return web.json_response({**self._board.status.as_json(), "picture": self._drawing.drawn.number})

    async def _phase(self, _request: Request) -> StreamResponse:
        return _picture(self._drawing.drawn.phase)

    async def _coverage(self, _request: Request) -> StreamResponse:
        return _picture(self._drawing.drawn.coverage)

    async def _stopped(self, _request: Request) -> StreamResponse:
        from aiohttp import web  # noqa: PLC0415 - an extra

        self._board.stopping()
        self._stop()
        return web.Response(status=204)


def _picture(content: bytes) -> StreamResponse:
    from aiohttp import web  # noqa: PLC0415 - an extra

    if not content:
        raise web.HTTPNotFound(text="There is no picture yet.\n")
    return web.Response(body=content, content_type="image/png")


async def _with_headers(_request: Request, response: StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _policy(page: str) -> str:
    """Let the page do what it does and nothing else; its own style and script are known by their content."""

    def hashed(tag: str) -> str:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; style-src {hashed('style')}; script-src {hashed('script')}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


PAGE = (files("ptycho_adapters.live") / "page.html").read_text(encoding="utf-8")
"""The page: style and script within it, nothing from elsewhere."""

_HEADERS = {
    "Content-Security-Policy": _policy(PAGE),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "ptycho",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
