"""Requests that have not come whole: counted for all connections of a server, and bounded.

A head may have 64 KiB and a body 1 MiB, and sending all but the last byte costs a client nothing.
So a server counts what it holds of them, and beyond a limit it cuts off the connections that have
been sending for longest. A request that comes at once is never among those, unless somebody sends
as much within the time that it takes.
"""

import asyncio
from collections import Counter
from typing import Protocol

import structlog

__all__ = ["ReceiveBuffers"]

MAX_UNFINISHED_BYTES = 64 * 1024 * 1024  # of one server: sixty of the largest bodies
MIN_ROOM_BYTES = (
    MAX_UNFINISHED_BYTES // 4
)  # there is after a cut, so that the next one is not at the next piece
log = structlog.get_logger("devnest.cluster")


class Sender(Protocol):
    """A connection, as far as it is cut off."""

    client: tuple[str, int] | None
    transport: asyncio.Transport


class ReceiveBuffers:
    """Counts what connections have sent of requests that go on. Belongs to one event loop."""

    def __init__(self) -> None:
        self._sizes: dict[Sender, int] = {}  # who began first is first
        self.held_bytes = 0
        self.connections_cut = 0

    def came(self, sender: Sender, size_bytes: int) -> None:
        """Count a piece of a request; cut connections off where there is too much."""
        self._sizes[sender] = self._sizes.get(sender, 0) + size_bytes
        self.held_bytes += size_bytes
        if self.held_bytes > MAX_UNFINISHED_BYTES:
            self._make_room()

    def forget(self, sender: Sender) -> None:
        """Its request has come whole, or will not."""
        self.held_bytes -= self._sizes.pop(sender, 0)

    def _make_room(self) -> None:
        cut = []
        while self.held_bytes > MAX_UNFINISHED_BYTES - MIN_ROOM_BYTES:
            cut.append(next(iter(self._sizes)))
            self.forget(cut[-1])
            cut[-1].transport.abort()
        self.connections_cut += len(cut)
        log.warning(
            "requests do not come whole, connections cut off", connections=len(cut),
            addresses=Counter((sender.client or ("",))[0] for sender in cut).most_common(3),
            unfinished_bytes=self.held_bytes,
        )  # fmt: skip
