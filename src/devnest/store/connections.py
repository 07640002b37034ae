"""Connections to PostgreSQL, lent one at a time: the one given back last is lent first.

asyncpg's own pool makes a task for every release, a timer for every acquisition and a proxy for every loan; that is
half of what a short query costs a server (`make bench`). This one does nothing of the kind while a connection is free.
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

CONNECT_TIMEOUT_S = (
    10.0  # where the URL has no connect_timeout: for a connection, with TLS and the password
)
MAX_CANCEL_S = 2.0  # for PostgreSQL to say that a statement has ended which was cancelled
MAX_IDLE_S = 300.0  # a firewall may have forgotten a connection that was silent for so long


async def connect(url: str, **options: Any) -> Connection:
    """A connection; `options` are those of `asyncpg.connect`, and stand above what the URL says.

    Raises `BadUrl` for the URL, and `DatabaseUnavailable` whatever keeps the connection from being made.
    """
    said = connection_options(url)
    settings = {**said.pop("server_settings", {}), **options.pop("server_settings", {})}
    arguments = {"timeout": CONNECT_TIMEOUT_S, **said, **options, "server_settings": settings}
    try:
        return await asyncpg.connect(**arguments)
    except (
        Exception
    ) as error:  # a variable like PGPORT, a certificate, a password file: all is the environment's
        raise DatabaseUnavailable(reason_of(error)) from error


class Connections:
    """At most `limit` of them, opened when they are needed, one at a time. Belongs to one event loop.

    Who waits gets whatever comes first, a connection given back or a new one: in a burst, which is when new ones are
    opened, opening takes many times as long as a short query. `acquire` raises `DatabaseUnavailable` where none can be
    opened, or is free within `timeout_s`.
    """

    def __init__(self, url: str, limit: int, timeout_s: float, **options: Any) -> None:
        self._url = url
        self._limit = limit
        self._timeout_s = timeout_s
        self._options = options
        self._idle: list[tuple[Connection, float]] = []  # the freshest last
        self._used: set[Connection] = set()
        self._retired: set[Connection] = set()  # lent, and not to be lent again
        self.followers: list[Connections] = []  # others that end when these have to
        self._may_be_read_only = False  # whether those there are can be written to
        self._opening: asyncio.Task[None] | None = None
        self._ending = set[asyncio.Task[None]]()
        self._waiting: deque[asyncio.Future[Connection]] = deque()

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
            if time.monotonic() - since > MAX_IDLE_S:
                connection.terminate()
                continue
            self._used.add(connection)
            return connection
        return await self._wait()

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """Take a connection back; it ends unless `reusable`: an interrupted statement may still run in it.

        Until PostgreSQL has ended that statement the connection counts as lent, or clients that come and go could have
        more statements running than there may be connections.
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
        """The server of one can no longer be written to: lend no connection again that is open now.

        Some that are opened from now on may be read-only too; the first one that can be written to ends them as well.
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
        """Close what is idle within the time given, and cut off the rest."""
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
            # 1. Nothing came: the waiter is cancelled, and is passed over.
            # 2. Opening one failed.
            # 3. It came in the turn of the loop in which the caller gave up: the next one has it.
            if not waiter.cancelled() and waiter.done() and waiter.exception() is None:
                self.release(waiter.result(), reusable=True)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable(
                    f"no connection was free within {self._timeout_s:g} s"
                ) from None
            raise

    def _lend(self, connection: Connection) -> None:
        """To who waits longest, before anyone who comes now."""
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
        """One more; its failure is that of who waits longest, and the others have another try."""
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
        """Have PostgreSQL cancel what runs in the connection, and close it; after a while without an answer, cut it."""
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
    """What the server has said of itself; asking would take a round trip."""
    said = connection.get_settings()
    return "on" not in (
        getattr(said, name, "off") for name in ("in_hot_standby", "default_transaction_read_only")
    )
