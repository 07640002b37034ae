"""A pool of PostgreSQL connections. The connection released last is used first.

asyncpg's own pool creates a task for each release, a timer for each acquisition and a proxy for
each use, for which every short query would pay. This pool creates none of them while a connection
is free.
"""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from devnest.store.connection_url import connection_options
from devnest.store.errors import DatabaseUnavailable
from devnest.store.unavailable import reason_of

__all__ = ["Connection", "Connections", "connect"]

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

# How long connecting may take, with TLS and authentication, unless the URL has `connect_timeout`.
CONNECT_TIMEOUT_S = 10.0
MAX_CANCEL_S = 2.0  # for PostgreSQL to confirm that a cancelled statement has ended
MAX_IDLE_S = 300.0  # a firewall may have dropped a connection that was idle for longer


async def connect(url: str, **options: Any) -> Connection:
    """Open a connection.

    Args:
        url: The database.
        options: Arguments of `asyncpg.connect`, which override those of the URL.

    Raises:
        BadUrl: The URL is not valid.
        DatabaseUnavailable: The connection could not be opened, whatever the cause.
    """
    said = connection_options(url)
    settings = {**said.pop("server_settings", {}), **options.pop("server_settings", {})}
    arguments = {"timeout": CONNECT_TIMEOUT_S, **said, **options, "server_settings": settings}
    try:
        return await asyncpg.connect(**arguments)
    # Every failure comes from the environment: the server, PGPORT, a certificate, a password file.
    except Exception as error:
        raise DatabaseUnavailable(reason_of(error)) from error


class Connections:
    """A pool of at most `limit` connections, which belongs to one event loop.

    Connections are opened on demand, one at a time. A waiting caller gets whichever comes first, a
    released connection or a new one: in a burst, opening a connection takes many times as long as a
    short query.

    Args:
        url: The database.
        limit: The largest number of open connections.
        timeout_s: How long `acquire` waits for a connection.
        options: Arguments of `asyncpg.connect`, which override those of the URL.

    Attributes:
        followers: Pools whose open connections end whenever those of this pool have to.
    """

    def __init__(self, url: str, limit: int, timeout_s: float, **options: Any) -> None:
        self._url = url
        self._limit = limit
        self._timeout_s = timeout_s
        self._options = options
        self._idle: list[tuple[Connection, float]] = []  # released last is at the end
        self._used: set[Connection] = set()
        self._retired: set[Connection] = set()  # in use; closed when they are released
        self.followers: list[Connections] = []
        self._may_be_read_only = False  # until a connection is opened that can be written to
        self._opening: asyncio.Task[None] | None = None
        self._ending = set[asyncio.Task[None]]()
        self._waiting: deque[asyncio.Future[Connection]] = deque()

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""
        return len(self._idle)

    @property
    def used(self) -> int:
        """How many connections are in use."""
        return len(self._used)

    async def acquire(self) -> Connection:
        """Return a connection, which the caller has to give to `release`.

        A cancelled caller gets none, and a connection that comes for it goes to the next caller.

        Raises:
            DatabaseUnavailable: No connection could be opened, or none was free within `timeout_s`.
        """
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                continue
            if time.monotonic() - since > MAX_IDLE_S:
                connection.terminate()
                continue
            self._used.add(connection)
            return connection
        return await self._wait()

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """Take a connection back.

        Args:
            connection: A connection from `acquire`.
            reusable: False ends it, because an interrupted statement may still run in it. It counts
                as used until PostgreSQL has ended that statement. Otherwise clients that disconnect
                early could occupy more of PostgreSQL than the limit allows.
        """
        if not reusable and not connection.is_closed():
            ending = asyncio.create_task(self._end(connection))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            return
        self._used.discard(connection)
        if connection in self._retired or connection.is_in_transaction():
            self._retired.discard(connection)
            connection.terminate()
        if connection.is_closed():
            self._open_for_waiter()
        else:
            self._lend(connection)

    def suspect_read_only(self) -> None:
        """Never reuse the connections that are open now, because their server became read-only.

        Connections that are opened from now on may be read-only too. The first one that can be
        written to ends all of them.
        """
        self._may_be_read_only = True
        self._retire()

    def _retire(self) -> None:
        self._retired |= self._used
        for connection, _ in self._idle:
            connection.terminate()
        self._idle.clear()
        for follower in self.followers:
            follower._retire()

    async def close(self, timeout_s: float) -> None:
        """Close the idle connections within `timeout_s`, and cut off all others."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        idle = [connection for connection, _ in self._idle]
        self._idle.clear()
        if idle:
            await asyncio.wait(
                {asyncio.create_task(connection.close()) for connection in idle}, timeout=timeout_s
            )
        for connection in (*idle, *self._used):
            connection.terminate()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _wait(self) -> Connection:
        waiter: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._open_for_waiter()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiter
        except BaseException as error:
            # 1. Nothing came: the waiter is cancelled, and later releases skip it.
            # 2. Opening a connection failed.
            # 3. A connection came in the same turn of the loop in which the caller gave up: it is
            # released for the next caller.
            if not waiter.cancelled() and waiter.done() and waiter.exception() is None:
                self.release(waiter.result(), reusable=True)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable(
                    f"no connection was free within {self._timeout_s:g} s"
                ) from None
            raise

    def _lend(self, connection: Connection) -> None:
        """Give the connection to the caller that has waited longest, or keep it as idle."""
        if waiter := self._next_waiter():
            self._used.add(connection)
            waiter.set_result(connection)
        else:
            self._idle.append((connection, time.monotonic()))

    def _open_for_waiter(self) -> None:
        if (
            self._opening is None
            and self._has_waiter()
            and len(self._used) + len(self._idle) < self._limit
        ):
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Open one connection. Its failure goes to the longest waiter only; another try follows."""
        try:
            connection = await connect(self._url, **self._options)
        except Exception as error:
            if waiter := self._next_waiter():
                waiter.set_exception(error)
        else:
            if self._may_be_read_only and _is_writable(connection):
                self._may_be_read_only = False
                self._retire()
            self._lend(connection)
        self._opening = None
        self._open_for_waiter()

    async def _end(self, connection: Connection) -> None:
        """Let PostgreSQL cancel what runs in the connection, and close it within `MAX_CANCEL_S`."""
        try:
            await connection.close(timeout=MAX_CANCEL_S)
        except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
            connection.terminate()
        finally:
            self._used.discard(connection)
            self._retired.discard(connection)
            self._open_for_waiter()

    def _has_waiter(self) -> bool:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    def _next_waiter(self) -> "asyncio.Future[Connection] | None":
        return self._waiting.popleft() if self._has_waiter() else None


def _is_writable(connection: Connection) -> bool:
    """Return what the server has reported by itself; a query would take a round trip."""
    said = connection.get_settings()
    return "on" not in (
        getattr(said, name, "off") for name in ("in_hot_standby", "default_transaction_read_only")
    )
