"""The live page as the run sees it: a thread with a server, which is told what to show."""

import asyncio
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from devnest.load.charts import Chart, reduced
from devnest.load.dashboard.server import Server
from devnest.load.errors import BadPlan
from devnest.load.page import filled, part

__all__ = ["Dashboard", "Live"]

MAX_LINGER_S = 3600.0  # after the end of the run the report is served for so long at most
RELOAD_S = 5.0  # in which a page that is reloaded is back
# Of a core, for making what the page shows. A long run has more to draw, and moves less often.
MAX_CPU_SHARE = 0.01
_POLL_S = 0.1
_END = b"event: end\ndata:\n\n"
_META_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n?')
# Of the report: the server sees by it that the page is open.
_PRESENT = 'const events = new EventSource("events"); events.onerror = () => events.close();'


class Live(msgspec.Struct, frozen=True):
    """What the page shows.

    Attributes:
        title: Its title.
        phase: What goes on, in a line.
        body: Pieces of HTML.
        figures: The charts in them, by their identities.
        vus: The number of VUs; None where the page cannot change it.
    """

    title: str
    phase: str
    body: str = ""
    figures: Mapping[str, Chart] = {}
    vus: int | None = None


class Dashboard:
    """A context manager that serves the page on a thread of its own.

    Args:
        host: A name or an address of this machine.
        port: 0 takes a free one.

    Attributes:
        url: Where the page is.
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket = _listening(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"
        self._lock = threading.Lock()  # of the next two
        self._on_stop: Callable[[], object] | None = None
        self._on_vus: Callable[[int], None] | None = None
        self._report = ""
        self._next_at = 0.0
        self._read_at = float("-inf")
        self._server = Server(host, self._page, self._stop, self._change_vus)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def control(
        self, stop: Callable[[], object] | None, vus: Callable[[int], None] | None = None
    ) -> None:
        """Say what the buttons do, from now on. They do it on the server's thread.

        Args:
            stop: Stops the run; None where there is nothing to stop. It is called once at most.
            vus: Changes the number of VUs, or raises `BadPlan`; None where that is impossible.
        """
        with self._lock:
            self._on_stop, self._on_vus = stop, vus

    def show(self, live: Live) -> None:
        """Show this now."""
        figures = {name: reduced(chart) for name, chart in live.figures.items()}
        live = msgspec.structs.replace(live, figures=figures)
        event = b"event: state\ndata: " + msgspec.json.encode(live) + b"\n\n"
        self._loop.call_soon_threadsafe(self._server.publish, event)

    def update(self, make: Callable[[], Live]) -> None:
        """Show what `make` returns, if somebody looks and the last drawing was not too costly."""
        begin = time.monotonic()
        if self._server.readers and begin >= self._next_at:
            spent = time.thread_time()
            self.show(make())
            self._next_at = begin + (time.thread_time() - spent) / MAX_CPU_SHARE

    def finish(self, report: str) -> None:
        """Show the report from now on: a whole page."""
        self.control(None)
        self._report = report
        self._loop.call_soon_threadsafe(self._server.publish, _END)

    @property
    def readers(self) -> int:
        """How many pages are open."""
        return self._server.readers

    @property
    def is_read(self) -> bool:
        """Whether a page is open, or was a moment ago and may be back."""
        if self._server.readers:
            self._read_at = time.monotonic()
        return time.monotonic() < self._read_at + RELOAD_S

    def linger(self) -> None:
        """Wait until all pages are closed, for at most `MAX_LINGER_S`, or until Ctrl-C."""
        if not self.is_read:
            return
        end = time.monotonic() + MAX_LINGER_S
        for number in (signal.SIGINT, signal.SIGTERM):  # an event loop has had them before
            signal.signal(number, signal.default_int_handler)
        try:
            while self.is_read and time.monotonic() < end:
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            return

    def _stop(self) -> bool:
        with self._lock:
            stop, self._on_stop = self._on_stop, None
            if stop is not None:
                stop()
        return stop is not None

    def _change_vus(self, number: int) -> bool:
        with self._lock:
            if self._on_vus is not None:
                self._on_vus(number)
            return self._on_vus is not None

    def _page(self, nonce: str, token: str) -> str:
        if self._report:
            # Nothing in a report can begin an element but its own template.
            text = _META_POLICY.sub("", self._report, count=1)
            for name in ("script", "style"):
                text = text.replace(f"<{name}", f'<{name} nonce="{nonce}"')
            end = f'<script nonce="{nonce}">{_PRESENT}</script>\n</body>'
            return end.join(text.rsplit("</body>", 1))
        parts = {
            "nonce": nonce,
            "token": token,
            "style": part("page.css"),
            "charts": part("charts.js"),
            "live": part("dashboard/live.js"),
        }
        return filled(part("dashboard/live.html"), parts)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        listener = await asyncio.start_server(self._server.connected, sock=self._socket)
        self._ready.set()
        await self._closing.wait()
        listener.close()
        await self._server.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=64)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a name or an address"
        raise BadPlan(f"no dashboard on {host}, port {port}: {reason}") from None
