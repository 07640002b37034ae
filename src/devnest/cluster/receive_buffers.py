"""Bounds the memory of unfinished requests, over all connections of a server.

A head may have 64 KiB and a body 1 MiB, and sending all but the last byte costs a client nothing.
So a server counts what it holds of unfinished requests. Above a limit it cuts off the connections
whose requests began first. A client that sends its request without pauses is hardly ever among
those: all other clients would have to send the limit in the time it takes.
"""

import asyncio
from collections import Counter
from typing import Protocol

import structlog

__all__ = ["ReceiveBuffers"]

# Bounds what one server holds of unfinished requests. It is about sixty of the largest bodies.
MAX_UNFINISHED_BYTES = 64 * 1024 * 1024
# Above the limit, connections are cut off until this much is free, so that the next piece that
# arrives does not exceed the limit again.
MIN_FREE_BYTES = MAX_UNFINISHED_BYTES // 4
log = structlog.get_logger("devnest.cluster")


class Connection(Protocol):
    """What is needed of a connection to cut it off and to log whose it was."""

    client: tuple[str, int] | None
    transport: asyncio.Transport


class ReceiveBuffers:
    """Counts what a server holds of unfinished requests. Belongs to one event loop.

    Attributes:
        held_bytes: What the server holds now.
        connections_cut: How many connections have been cut off.
    """

    def __init__(self) -> None:
        self._sizes: dict[Connection, int] = {}  # in the order in which the requests began
        self.held_bytes = 0
        self.connections_cut = 0

    def received(self, connection: Connection, size_bytes: int) -> None:
        """Count a piece of a request; above the limit, cut off the oldest unfinished requests."""
        self._sizes[connection] = self._sizes.get(connection, 0) + size_bytes
        self.held_bytes += size_bytes
        if self.held_bytes > MAX_UNFINISHED_BYTES:
            self._cut_off_oldest()

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection's request: it is complete, or given up."""
        self.held_bytes -= self._sizes.pop(connection, 0)

    def _cut_off_oldest(self) -> None:
        cut = []
        while self.held_bytes > MAX_UNFINISHED_BYTES - MIN_FREE_BYTES:
            cut.append(next(iter(self._sizes)))
            self.forget(cut[-1])
            cut[-1].transport.abort()
        self.connections_cut += len(cut)
        log.warning(
            "requests do not come whole, connections cut off", connections=len(cut),
            addresses=Counter((each.client or ("",))[0] for each in cut).most_common(3),
            unfinished_bytes=self.held_bytes,
        )  # fmt: skip
