"""Connections to PostgreSQL, lent one at a time: the one given back last is lent first.

asyncpg's own pool makes a task for every release, a timer for every acquisition and a proxy for every loan; that is
half of what a short query costs a server (`make bench`). This one does nothing of the kind while a connection is free.
"""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

__all__ = ["Connection", "Connections"]

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

STALE_S = 300.0  # a firewall may have forgotten a connection that was silent for so long


class Connections:
    """At most `limit` of them, each opened when it is first needed. Belongs to one event loop.

    What `asyncpg.connect` raises comes out of `acquire`, and TimeoutError where none is free within `timeout_s`.
    """

    def __init__(self, url: str, limit: int, timeout_s: float, **options: Any) -> None:
        self._url = url
        self._limit = limit
        self._timeout_s = timeout_s
        self._options = options
        self._idle: list[tuple[Connection, float]] = []  # the freshest last
        self._used: set[Connection] = set()
        self._opening = 0  # begun, or promised to one who waited: room that nobody else may take
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()  # None: open one, the room is kept for you

    @property
    def idle(self) -> int:
        """Open, and lent to nobody."""
        return len(self._idle)

    @property
    def used(self) -> int:
        """Lent."""
        return len(self._used)

    async def acquire(self) -> Connection:
        """A connection, to be given to `release` in the end."""
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                continue
            if time.monotonic() - since > STALE_S:
                connection.terminate()
                continue
            self._used.add(connection)
            return connection
        if len(self._used) + self._opening < self._limit:
            self._opening += 1
            return await self._open()
        return await self._wait()

    def release(self, connection: Connection, *, sound: bool) -> None:
        """Take a connection back; it ends unless `sound`: an interrupted statement may still run in it."""
        self._used.discard(connection)
        if not sound or connection.is_in_transaction():
            connection.terminate()
        if connection.is_closed():
            self._give_room()
        elif waiter := self._next_waiter():
            self._used.add(connection)
            waiter.set_result(connection)
        else:
            self._idle.append((connection, time.monotonic()))

    async def close(self, patience_s: float) -> None:
        """Close what is idle within the time given, and cut off the rest."""
        idle = [connection for connection, _ in self._idle]
        self._idle.clear()
        if idle:
            await asyncio.wait({asyncio.create_task(connection.close()) for connection in idle}, timeout=patience_s)
        for connection in (*idle, *self._used):
            connection.terminate()

    async def _open(self) -> Connection:
        """In room that is counted as `_opening` already."""
        try:
            connection: Connection = await asyncpg.connect(self._url, **self._options)
        except BaseException:
            self._opening -= 1
            self._give_room()
            raise
        self._opening -= 1
        self._used.add(connection)
        return connection

    async def _wait(self) -> Connection:
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await waiter
        except BaseException:
            # 1. Nothing came: the waiter is cancelled, and `release` passes over it.
            # 2. It came in the turn of the loop in which the caller gave up: the next one has it.
            if not waiter.cancelled() and waiter.done():
                if (given := waiter.result()) is None:
                    self._opening -= 1
                    self._give_room()
                else:
                    self.release(given, sound=True)
            raise
        return await self._open() if connection is None else connection

    def _give_room(self) -> None:
        """To who waits longest, before anyone who comes now."""
        if waiter := self._next_waiter():
            self._opening += 1
            waiter.set_result(None)

    def _next_waiter(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None
