"""Bounds the memory of responses that clients have not read, over all connections of a server.

What the kernel does not accept of a response stays in the server until the client has read more,
and requesting a large page without reading it costs a client nothing. So a server counts what it
holds. Above a limit it cuts off the connections that would need the longest for the rest, at the
pace at which their clients have read in the last second.

A transport keeps each written piece until its last byte is sent, so a piece counts in full until
then.
"""

import asyncio
import socket
import struct
from collections import Counter, deque

import structlog

__all__ = ["SendBuffers"]

# Bounds what one server holds of unread responses. It is about sixty of the largest pages.
MAX_UNSENT_BYTES = 64 * 1024 * 1024
# Above the limit, connections are cut off until this much is free, so that the next response does
# not exceed the limit again.
MIN_FREE_BYTES = MAX_UNSENT_BYTES // 4
# Bounds one connection. None comes near it: a request waits until its client has read all but 64
# KiB (uvicorn's high-water mark) of the response before, and the largest response, the script of
# `/docs`, has 1.4 MiB.
MAX_CONNECTION_UNSENT_BYTES = 4 * 1024 * 1024
# Between two measurements of how much each client has read.
MEASURE_INTERVAL_S = 1.0
# The assumed pace of a connection, in bytes per second, until it has been measured twice.
INITIAL_PACE = 64 * 1024.0
# SO_LINGER with a timeout of 0: closing resets the connection, so that the kernel drops its data
# too.
NO_LINGER = struct.pack("ii", 1, 0)
log = structlog.get_logger("devnest.cluster")


class SendBuffers:
    """Counts what a server holds of unread responses. Belongs to the running event loop.

    Attributes:
        held_bytes: What the server holds now.
        connections_cut: How many connections have been cut off.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread: dict[asyncio.Transport, _Unread] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.held_bytes = 0
        self.connections_cut = 0

    def wrote(self, transport: asyncio.Transport, size_bytes: int) -> None:
        """Count a piece that the kernel did not accept in full; above a limit, cut connections off.

        Args:
            transport: Where it was written.
            size_bytes: The size of the whole piece, in bytes.
        """
        unread = self._unread.get(transport)
        if unread is None:
            unread = self._unread[transport] = _Unread()
            if self._timer is None:
                self._timer = self._loop.call_later(MEASURE_INTERVAL_S, self._measure)
        unread.wrote(size_bytes)
        self.held_bytes += size_bytes
        self._count(transport, unread)
        if unread.held_bytes > MAX_CONNECTION_UNSENT_BYTES:
            self._cut_off_all([transport], "one connection")
        elif self.held_bytes > MAX_UNSENT_BYTES:
            self._cut_off_slowest()

    def cut_off(self, transport: asyncio.Transport) -> None:
        """Reset a connection whose client does not read, and free what the server holds for it."""
        unread = self._unread.pop(transport, None)
        if unread is not None:
            self.held_bytes -= unread.held_bytes
        self.connections_cut += 1
        if not transport.is_closing():  # else its file descriptor may already be another socket's
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER
            )
        transport.abort()

    def _count(self, transport: asyncio.Transport, unread: "_Unread") -> None:
        before = unread.held_bytes
        unread.release(transport.get_write_buffer_size())
        self.held_bytes += unread.held_bytes - before
        if not unread.held_bytes:
            del self._unread[transport]

    def _measure(self) -> None:
        """Measure what each client has read since the last time; repeat until all have read all."""
        for transport, unread in list(self._unread.items()):
            unread.measure(transport.get_write_buffer_size())
            self._count(transport, unread)
        self._timer = (
            self._loop.call_later(MEASURE_INTERVAL_S, self._measure) if self._unread else None
        )

    def _cut_off_slowest(self) -> None:
        for transport, unread in list(self._unread.items()):
            self._count(transport, unread)
        slowest_last = sorted(self._unread, key=lambda transport: self._unread[transport].sort_key)
        excess = self.held_bytes - (MAX_UNSENT_BYTES - MIN_FREE_BYTES)
        cut = []
        while excess > 0:
            cut.append(slowest_last.pop())
            excess -= self._unread[cut[-1]].held_bytes
        if cut:
            self._cut_off_all(cut, "the server")

    def _cut_off_all(self, transports: list[asyncio.Transport], too_much_for: str) -> None:
        addresses = Counter(
            (transport.get_extra_info("peername") or ("",))[0] for transport in transports
        )
        for transport in transports:
            self.cut_off(transport)
        log.warning(
            "answers are not read, connections cut off",
            too_much_for=too_much_for, connections=len(transports),
            addresses=addresses.most_common(3), unsent_bytes=self.held_bytes,
        )  # fmt: skip


class _Unread:
    """What the client of one connection has not read, and how fast it reads."""

    __slots__ = (
        "_is_measured",
        "_pace",
        "_sizes",
        "_unread_bytes",
        "_unread_if_paused_bytes",
        "held_bytes",
    )

    def __init__(self) -> None:
        self._sizes = deque[int]()  # of the pieces that are not completely sent, oldest first
        self._unread_bytes = 0
        # What would be unread now if the client had read nothing since the last measurement.
        self._unread_if_paused_bytes = 0
        self._is_measured = False
        self._pace = INITIAL_PACE
        self.held_bytes = 0

    @property
    def sort_key(self) -> tuple[float, int]:
        """Seconds until all is read, infinite for a client that does not read; then the size."""
        return self._unread_bytes / self._pace if self._pace else float("inf"), self.held_bytes

    def wrote(self, size_bytes: int) -> None:
        """Add a piece."""
        self._sizes.append(size_bytes)
        self.held_bytes += size_bytes
        self._unread_if_paused_bytes += size_bytes

    def release(self, unread_bytes: int) -> None:
        """Forget the pieces that are completely sent, given how much is unread."""
        self._unread_bytes = unread_bytes
        while self._sizes and self.held_bytes - self._sizes[0] >= unread_bytes:
            self.held_bytes -= self._sizes.popleft()

    def measure(self, unread_bytes: int) -> None:
        """Compute the pace, given how much is unread `MEASURE_INTERVAL_S` after the last call."""
        if self._is_measured:
            self._pace = (self._unread_if_paused_bytes - unread_bytes) / MEASURE_INTERVAL_S
        self._is_measured = True
        self._unread_if_paused_bytes = unread_bytes
