"""What clients have yet to read of their answers: counted for a whole server, and bounded.

What the kernel does not take of an answer stays in the server until the client has read more, and to ask for a large
page and never read it costs a client nothing. So a server counts what it keeps, and when that is too much it cuts off
those who would need the longest for the rest, at the pace at which they have read in the last seconds.

A transport keeps each piece that was written whole until its last byte has gone, so a piece counts whole until then.
"""

import asyncio
import socket
import struct
from collections import Counter, deque

import structlog

__all__ = ["SendBuffers"]

MAX_UNSENT_BYTES = 64 * 1024 * 1024  # of one server: sixty of the largest pages
MIN_ROOM_BYTES = (
    MAX_UNSENT_BYTES // 4
)  # there is after a cut, so that the next one is not at the next answer
# Of one connection: its next request waits until it has read nearly all of the answer before (64 KiB, uvicorn's mark),
# and the largest answer, the script of `/docs`, has 1.4 MiB.
MAX_CONNECTION_UNSENT_BYTES = 4 * 1024 * 1024
LOOK_S = 1.0  # between two looks at who has read how much
NEWCOMER_PACE = 64 * 1024.0  # bytes a second: a connection's, until it has been looked at twice
NO_LINGER = struct.pack(
    "ii", 1, 0
)  # close with a reset: the kernel, too, forgets what nobody reads
log = structlog.get_logger("devnest.cluster")


class SendBuffers:
    """Counts the unsent bytes of all connections of a server. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._behind: dict[asyncio.Transport, _Backlog] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.held_bytes = 0
        self.connections_cut = 0

    def wrote(self, transport: asyncio.Transport, size_bytes: int) -> None:
        """Count a piece that the kernel did not take whole; cut connections off where there is too much."""
        backlog = self._behind.get(transport)
        if backlog is None:
            backlog = self._behind[transport] = _Backlog()
            if self._timer is None:
                self._timer = self._loop.call_later(LOOK_S, self._look)
        backlog.wrote(size_bytes)
        self.held_bytes += size_bytes
        self._count(transport, backlog)
        if backlog.held_bytes > MAX_CONNECTION_UNSENT_BYTES:
            self._cut_off_all([transport], "one connection")
        elif self.held_bytes > MAX_UNSENT_BYTES:
            self._make_room()

    def cut_off(self, transport: asyncio.Transport) -> None:
        """End a connection whose client does not read, and free what it holds; the client learns it as a reset."""
        backlog = self._behind.pop(transport, None)
        if backlog is not None:
            self.held_bytes -= backlog.held_bytes
        self.connections_cut += 1
        if not transport.is_closing():  # else its descriptor may be another's by now
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER
            )
        transport.abort()

    def _count(self, transport: asyncio.Transport, backlog: "_Backlog") -> None:
        before = backlog.held_bytes
        backlog.settle(transport.get_write_buffer_size())
        self.held_bytes += backlog.held_bytes - before
        if not backlog.held_bytes:
            del self._behind[transport]

    def _look(self) -> None:
        """See what everybody has read since the last look, until nobody is behind."""
        for transport, backlog in list(self._behind.items()):
            backlog.look(transport.get_write_buffer_size())
            self._count(transport, backlog)
        self._timer = self._loop.call_later(LOOK_S, self._look) if self._behind else None

    def _make_room(self) -> None:
        for transport, backlog in list(self._behind.items()):
            self._count(transport, backlog)
        slowest_last = sorted(self._behind, key=lambda transport: self._behind[transport].order)
        excess = self.held_bytes - (MAX_UNSENT_BYTES - MIN_ROOM_BYTES)
        cut = []
        while excess > 0:
            cut.append(slowest_last.pop())
            excess -= self._behind[cut[-1]].held_bytes
        if cut:
            self._cut_off_all(cut, "the server")

    def _cut_off_all(self, transports: list[asyncio.Transport], too_much_for: str) -> None:
        addresses = Counter(
            (transport.get_extra_info("peername") or ("",))[0] for transport in transports
        )
        for transport in transports:
            self.cut_off(transport)
        log.warning(
            "answers are not read, connections cut off", too_much_for=too_much_for, connections=len(transports),
            addresses=addresses.most_common(3), unsent_bytes=self.held_bytes,
        )  # fmt: skip


class _Backlog:
    """What one connection has yet to read."""

    __slots__ = (
        "_is_known",
        "_pace",
        "_sizes",
        "_unread_bytes",
        "_unread_without_reading_bytes",
        "held_bytes",
    )

    def __init__(self) -> None:
        self._sizes = deque[int]()  # of the pieces that have not gone whole, oldest first
        self._unread_bytes = 0
        self._unread_without_reading_bytes = (
            0  # what would be unread, had nothing been read since the last look
        )
        self._is_known = False
        self._pace = NEWCOMER_PACE  # bytes a second
        self.held_bytes = 0

    @property
    def order(self) -> tuple[float, int]:
        """Seconds until everything is read; who does not read at all is last, and of those who holds most."""
        return self._unread_bytes / self._pace if self._pace else float("inf"), self.held_bytes

    def wrote(self, size_bytes: int) -> None:
        """Add a piece."""
        self._sizes.append(size_bytes)
        self.held_bytes += size_bytes
        self._unread_without_reading_bytes += size_bytes

    def settle(self, unread_bytes: int) -> None:
        """Forget the pieces that have gone, when so much is unread."""
        self._unread_bytes = unread_bytes
        while self._sizes and self.held_bytes - self._sizes[0] >= unread_bytes:
            self.held_bytes -= self._sizes.popleft()

    def look(self, unread_bytes: int) -> None:
        """Learn the pace, when so much is unread `LOOK_S` after the last time."""
        if self._is_known:
            self._pace = (self._unread_without_reading_bytes - unread_bytes) / LOOK_S
        self._is_known = True
        self._unread_without_reading_bytes = unread_bytes
