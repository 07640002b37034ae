"""`ServerLink`: a client's connection to the server of a shared pool, restored when it breaks."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from devnest.pool.wire.channel import Channel
from devnest.pool.wire.peer import connect
from devnest.pool.wire.protocol import VERSION, Frame, Kind, WireError, frame, read_greeting

if TYPE_CHECKING:
    from devnest.pool.launcher import Launcher

__all__ = ["ServerLink"]

# Delay between attempts to connect. It starts at the minimum and doubles.
MIN_RETRY_S, MAX_RETRY_S = 0.02, 0.1
# A starting client that is connected waits this long for the greeting, even with less patience.
MIN_GREETING_S = 5.0


class ServerLink:
    """Connects until a server greets, and connects to the next one when that has gone.

    Args:
        path: The path of the server's socket.
        launcher: Starts a server where none answers; `None` to wait for one.
        on_frame: Receives each frame after the greeting.
        on_back: Called when a server has greeted.
        on_gone: Called with a phrase when a server that had greeted has gone; returns whether to
            connect to the next one.

    Attributes:
        path: As given.
        channel: The connection, while a server that has greeted is at its other end.
        max_frame_bytes: The server's limit, from its greeting.
        away_since: When no server began to be there, by the monotonic clock.
    """

    def __init__(
        self,
        path: Path,
        launcher: "Launcher | None",
        on_frame: Callable[[Frame], None],
        on_back: Callable[[], None],
        on_gone: Callable[[str], bool],
    ) -> None:
        self.path = path
        self.channel: Channel | None = None
        self.max_frame_bytes = 0
        self.away_since = 0.0
        self._launcher = launcher
        self._on_frame = on_frame
        self._on_back = on_back
        self._on_gone = on_gone
        self._wire: Channel | None = None  # the connection, before or after the greeting
        self._has_greeted = False
        self._settled = asyncio.Event()  # set by the first greeting, or if there can be none
        self._connector: asyncio.Task[None] | None = None
        self._refusal = ""  # how the last connection without a greeting ended
        self._retry_s = 0.0  # delay before the next attempt to connect

    def connect(self) -> None:
        """Begin to connect."""
        self.away_since = time.monotonic()
        self._start_connector()

    async def is_greeted(self, patience: float) -> bool:
        """Wait for the first greeting for `patience` seconds; return whether it has come.

        Without a usable directory for the socket, the answer comes at once.
        """
        await self._wait_for_greeting(patience)
        if self._wire is not None:
            await self._wait_for_greeting(MIN_GREETING_S - patience)
        return self._has_greeted

    def answered(self) -> None:
        """Let the next attempt to connect begin without delay, as the server has answered a call.

        A greeting is not enough: if a call kills each server, it must not be sent again at once.
        """
        self._retry_s = 0.0

    def why_not(self, patience: float) -> str:
        """Return for how long no server was there, and why, as the rest of a sentence."""
        if self._launcher is not None and self._launcher.is_hopeless:
            return f"; {self._launcher.reason}"
        text = f" for {patience:g} s"
        text += f"; the last connection: {self._refusal}" if self._refusal else ""
        if self._launcher is not None and self._launcher.reason:
            text += f"; {self._launcher.reason}"
        return text

    async def close(self) -> None:
        """Disconnect when all that was sent has been written, and try no more."""
        if self._connector is not None:
            self._connector.cancel()
            await asyncio.wait([self._connector])
        if self._launcher is not None:
            self._launcher.close()
        wire, self._wire, self.channel = self._wire, None, None
        if wire is not None:
            wire.flush()
            wire.close()

    async def _wait_for_greeting(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._settled.wait()

    def _start_connector(self) -> None:
        self._connector = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        sock = None
        while sock is None:
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(MAX_RETRY_S, 2 * self._retry_s or MIN_RETRY_S)
            sock = await connect(loop, self.path)
            if sock is None and self._launcher is not None:
                self._launcher.launch()
                if self._launcher.is_hopeless:
                    self._settled.set()
        self._wire = Channel(loop, sock, self._received, self._lost)
        self._wire.send(frame(Kind.HELLO, VERSION))

    def _received(self, received: Frame) -> None:
        if received.kind != Kind.HELLO:
            if self.channel is None:
                raise WireError("the first frame was no greeting")
            self._on_frame(received)
            return
        if self.channel is not None:
            raise WireError("the server greeted twice")
        self.max_frame_bytes = read_greeting(received)
        self.channel = self._wire
        self._has_greeted = True
        self._settled.set()
        if self._launcher is not None:
            self._launcher.connected()
        self._on_back()

    def _lost(self, reason: str, _unread: bool) -> None:
        self._wire = None
        if self.channel is None:  # no greeting, so the server had no calls and was not back
            self._refusal = reason
            self._start_connector()
            return
        self.channel = None
        self._refusal = ""
        self.away_since = time.monotonic()
        if self._on_gone(reason):
            self._start_connector()
