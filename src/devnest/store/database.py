"""A bounded pool of connections, and the one place where the driver's failures become ours."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import asyncpg

from devnest.store.connections import Connection, Connections
from devnest.store.errors import DatabaseUnavailable

__all__ = ["TRANSLATED", "Database"]

ACQUIRE_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 2.0


class Database:
    """Connections to PostgreSQL; `async with Database(url)` opens and closes them.

    Every method raises `DatabaseUnavailable` where the server does not answer, refuses connections, restarts, or has
    none free within 5 s. `waited` is told how many seconds each connection was waited for.
    """

    def __init__(self, url: str, connections: int = 10, waited: Callable[[float], None] = lambda _: None) -> None:
        self._url = url
        self._connections = connections
        self._waited = waited
        self._probe: asyncio.Task[Any] | None = None
        self._pool: Connections | None = None

    async def __aenter__(self) -> Self:
        pool = Connections(
            self._url,
            self._connections,
            ACQUIRE_TIMEOUT_S,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={"application_name": "devnest", "timezone": "UTC"},
        )
        with TRANSLATED:
            pool.release(await pool.acquire(), sound=True)
        self._pool = pool
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(CLOSE_TIMEOUT_S)

    @property
    def idle(self) -> int:
        """Open connections that nobody uses."""
        return self._pool.idle if self._pool else 0

    @property
    def used(self) -> int:
        """Connections in use."""
        return self._pool.used if self._pool else 0

    async def probe(self) -> None:
        """Raise `DatabaseUnavailable` unless the server answers within 2 s; who asks at the same time asks once."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self.fetch_value("SELECT 1"))
            self._probe.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be left
        # It goes on when time is up: a connection whose query is cancelled waits for the server once more.
        done, _ = await asyncio.wait((probe := self._probe,), timeout=PROBE_TIMEOUT_S)
        if not done:
            raise DatabaseUnavailable(f"no answer within {PROBE_TIMEOUT_S:g} s")
        probe.result()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of a query."""
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetch_row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of a query, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetch_value(self, query: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *arguments)

    def connection(self) -> "_Lease":
        """A connection for several statements; give it back before anything slow, above all before a hash."""
        assert self._pool is not None, "not open"
        return _Lease(self._pool, self._waited)


class _Lease:
    """A connection between `async with` and its end. A class: this is on the path of every query."""

    __slots__ = ("_connection", "_pool", "_waited")

    def __init__(self, pool: Connections, waited: Callable[[float], None]) -> None:
        self._pool = pool
        self._waited = waited
        self._connection: Connection

    async def __aenter__(self) -> Connection:
        started = time.perf_counter()
        with TRANSLATED:
            self._connection = await self._pool.acquire()
        self._waited(time.perf_counter() - started)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.release(self._connection, sound=not isinstance(error, INTERRUPTED))
        TRANSLATED.__exit__(kind, error, traceback)


class _Translated:
    """Turns what says "no database now" into `DatabaseUnavailable`; our own mistakes in SQL stay what they are.

    A class, and one object of it for all: on the path of every query a generator would cost more than the rest.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and isinstance(error, UNAVAILABLE):
            raise DatabaseUnavailable(str(error) or type(error).__name__) from error


TRANSLATED = _Translated()
# After these a statement may still run in the connection.
INTERRUPTED = (asyncio.CancelledError, GeneratorExit, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,  # the connection closed under a query
    asyncpg.InternalClientError,
    OSError,  # TimeoutError is one
)
