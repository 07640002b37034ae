"""The HTTP server of the live page: the page, its events, and its two buttons.

Every event is the whole state, so a page that is reloaded or reads slowly just takes the newest one
and there is no queue to bound. No other web site can press the buttons: they need a token that is
in the page alone, the `Origin` has to be the page's own, and a `Host` that is a name of somebody
else (DNS rebinding) gets no page at all.
"""

import asyncio
import contextlib
import ipaddress
import re
import secrets
from collections.abc import Callable
from typing import Annotated

import msgspec

from devnest.load.dashboard.requests import BadRequest, Request, head, receive, response
from devnest.load.errors import BadPlan
from devnest.load.schedule import MAX_VUS

__all__ = ["Server"]

MAX_CONNECTIONS = 64  # further ones are closed at once
MAX_UNREAD_S = 10.0  # a browser that takes nothing for so long is dropped
HEARTBEAT_S = 5.0  # between two events at most, so that a browser that has gone is noticed
TOKEN_HEADER = "x-dashboard-token"  # noqa: S105 - the name of a header
_NAME = re.compile(r"\[([0-9a-f:.]+)\](?::\d{1,5})?|([^:\[\]]+)(?::\d{1,5})?", re.IGNORECASE)


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /vus`."""

    vus: Annotated[int, msgspec.Meta(ge=0, le=MAX_VUS)]


class Server:
    """Serves one page to any number of browsers. All of it belongs to one event loop.

    Args:
        host: The name or address that it listens on; a `Host` of this name is answered.
        page: Returns the page, for a nonce and the token.
        stop: Stops the run; False if there is none to stop.
        change_vus: Changes the number of VUs; False if there is none to change.

    Attributes:
        readers: How many browsers receive events.
    """

    def __init__(
        self,
        host: str,
        page: Callable[[str, str], str],
        stop: Callable[[], bool],
        change_vus: Callable[[int], bool],
    ) -> None:
        self._host = host
        self._page = page
        self._stop = stop
        self._change_vus = change_vus
        self._token = secrets.token_urlsafe(32)
        self._connections: set[asyncio.Task[None]] = set()
        self._news: set[asyncio.Event] = set()
        self._event = b""
        self.readers = 0

    def publish(self, event: bytes) -> None:
        """Send an event to all browsers, and to each that comes later until the next one."""
        self._event = event
        for news in self._news:
            news.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: a callback of `asyncio.start_server`."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= MAX_CONNECTIONS:
                with contextlib.suppress(OSError):  # the browser has gone; TimeoutError is one
                    await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await receive(reader)
        except BadRequest:
            writer.write(response(400, "not a request, or a long one\n"))
            await _drained(writer)
            return
        if request is None:
            return
        if self._is_foreign(request):
            writer.write(response(403, "this is the dashboard of another host\n"))
        elif (request.method, request.path) == ("GET", "/events"):
            await self._send_events(writer)
            return
        else:
            writer.write(self._answer(request))
        await _drained(writer)

    def _is_foreign(self, request: Request) -> bool:
        """Whether the request was made for a name that is not this server's."""
        found = _NAME.fullmatch(request.headers.get("host", ""))
        if found is None:
            return True
        name = (found[1] or found[2]).lower()
        if name in ("localhost", self._host.lower()):
            return False
        try:
            ipaddress.ip_address(name)  # no name server can turn an address into another
        except ValueError:
            return True
        return False

    def _answer(self, request: Request) -> bytes:
        methods = {"/": "GET", "/events": "GET", "/favicon.ico": "GET", "/stop": "POST"}
        methods["/vus"] = "POST"
        method = methods.get(request.path)
        if method is None:
            return response(404, "no such page\n")
        if request.method != method:
            return response(405, f"{method} alone\n", headers={"Allow": method})
        if method == "POST":
            return self._act(request)
        if request.path == "/favicon.ico":
            return response(204)
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src blob:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        page = self._page(nonce, self._token)
        return response(200, page, "text/html", {"Content-Security-Policy": policy})

    def _act(self, request: Request) -> bytes:
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers['host']}":
            return response(403, "another site may not do this\n")
        token = request.headers.get(TOKEN_HEADER, "")
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return response(403, "the page's token is missing or wrong: reload the page\n")
        if request.path == "/stop":
            return response(204) if self._stop() else response(409, "there is nothing to stop\n")
        try:
            wanted = msgspec.json.decode(request.body, type=Wanted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return response(422, f"vus is a whole number from 0 to {MAX_VUS:,}\n")
        try:
            changed = self._change_vus(wanted.vus)
        except BadPlan as error:
            return response(422, f"{error}\n")
        return response(204) if changed else response(409, "this run's VUs cannot be changed now\n")

    async def _send_events(self, writer: asyncio.StreamWriter) -> None:
        news = asyncio.Event()
        self._news.add(news)
        self.readers += 1
        try:
            writer.write(head(200, {"Content-Type": "text/event-stream"}) + b"retry: 1000\n\n")
            event = self._event
            while True:
                writer.write(event or b":\n\n")
                await _drained(writer)
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await news.wait()
                    event = self._event
                except TimeoutError:
                    event = b""
                news.clear()
        finally:
            self.readers -= 1
            self._news.discard(news)


async def _drained(writer: asyncio.StreamWriter) -> None:
    """Wait until the browser has taken nearly all.

    Raises:
        TimeoutError: It takes nothing.
    """
    try:
        async with asyncio.timeout(MAX_UNREAD_S):
            await writer.drain()
    except TimeoutError:
        writer.transport.abort()
        raise
