"""The database: queries on a bounded pool of connections, with the driver's errors translated."""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeAlias

import asyncpg

from devnest.store.connections import Connection, Connections
from devnest.store.errors import DatabaseUnavailable, DatabaseUnfit, SchemaNewer
from devnest.store.migrations import HEAD, VERSION_TABLE
from devnest.store.unavailable import TRANSLATE_ERRORS, is_read_only_error, leaves_reusable

__all__ = ["Database", "Query", "QueryObserver"]

Query: TypeAlias = asyncpg.connection.LoggedQuery
QueryObserver: TypeAlias = Callable[[Query], None]

ACQUIRE_TIMEOUT_S = 5.0  # how long a query waits for a free connection
STATEMENT_TIMEOUT_S = 10.0  # PostgreSQL ends statements that take longer
# The driver gives up so much later, if PostgreSQL has not ended a statement by itself.
STATEMENT_TIMEOUT_MARGIN_S = 1.0
CLOSE_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 2.0  # for the answer to a health check
READ_ONLY = "current_setting('transaction_read_only')"  # "on" on a standby as well
PROBE = f"""
SELECT {READ_ONLY} AS read_only, version_num, oldest_program FROM {VERSION_TABLE}"""  # noqa: S608


class Database:
    """Connections to PostgreSQL: `async with Database(url) as database`.

    Every method raises `DatabaseUnavailable` if the server does not answer, refuses connections,
    restarts, cannot be written to, or if no connection is free within 5 s.
    `devnest.store.unavailable` has the complete list.

    Args:
        url: The database.
        connections: The largest number of open connections.
        record_wait: Called with the seconds that each query waited for its connection.
        statement_timeout_s: PostgreSQL ends statements that take longer, even if their caller has
            gone.
        settings: PostgreSQL settings for these connections.

    Attributes:
        observe: Called where a connection is taken; what it returns is called soon after each
            query on that connection until it is given back.
    """

    def __init__(
        self,
        url: str,
        connections: int = 10,
        record_wait: Callable[[float], None] = lambda _: None,
        *,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._url = url
        self._statement_timeout_s = statement_timeout_s
        self._settings = settings
        self._connections = connections
        self._record_wait = record_wait
        self._probe: asyncio.Task[Any] | None = None
        self._pool: Connections | None = None
        self.observe: Callable[[], QueryObserver | None] | None = None

    async def __aenter__(self) -> Self:
        pool = Connections(
            self._url,
            self._connections,
            ACQUIRE_TIMEOUT_S,
            command_timeout=self._statement_timeout_s + STATEMENT_TIMEOUT_MARGIN_S,
            server_settings={
                "application_name": "devnest",
                "timezone": "UTC",
                "statement_timeout": f"{self._statement_timeout_s * 1000:.0f}",
                **self._settings,
            },
        )
        pool.release(await pool.acquire(), reusable=True)
        self._pool = pool
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(CLOSE_TIMEOUT_S)

    def follow(self, other: "Database") -> None:
        """End the open connections whenever those of `other` have to end. Both must be open.

        When the primary server changes, connections that write notice it and connections that only
        read do not.
        """
        assert self._pool is not None, "not open"
        assert other._pool is not None, "not open"
        other._pool.followers.append(self._pool)

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""
        return self._pool.idle if self._pool else 0

    @property
    def used(self) -> int:
        """How many connections are in use."""
        return self._pool.used if self._pool else 0

    async def probe(self) -> None:
        """Check that the database can serve this program. Concurrent calls share one check.

        Raises:
            DatabaseUnavailable: It does not answer within 2 s, or is read-only.
            DatabaseUnfit: Its schema does not serve this program.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask())
            # All callers may be gone when it ends, so the exception is always retrieved here.
            self._probe.add_done_callback(lambda task: task.cancelled() or task.exception())
        # A probe that takes too long goes on: cancelling its query would wait for the server again.
        done, _ = await asyncio.wait((probe := self._probe,), timeout=PROBE_TIMEOUT_S)
        if not done:
            raise DatabaseUnavailable(f"no answer within {PROBE_TIMEOUT_S:g} s")
        probe.result()

    async def _ask(self) -> None:
        async with self.connection() as connection:
            row = await connection.fetchrow(PROBE)
            if row is not None and row["read_only"] == "on":
                raise asyncpg.ReadOnlySQLTransactionError("it is read-only")
        if row is None:
            raise DatabaseUnfit(f"its table {VERSION_TABLE} is empty")
        if row["oldest_program"] > HEAD:
            raise SchemaNewer(row["version_num"], row["oldest_program"], HEAD)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a query and return all rows."""
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetch_row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """Run a query and return its first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetch_value(self, query: str, *arguments: object) -> Any:
        """Run a query and return the first column of its first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *arguments)

    def connection(self) -> "_Lease":
        """Return a context manager with a connection for several statements.

        Leave it before anything slow runs, above all before a password is hashed.
        """
        assert self._pool is not None, "not open"
        return _Lease(self._pool, self._record_wait, self.observe)


class _Lease:
    """A connection for the time of an `async with`; a class, because every query uses one."""

    __slots__ = ("_connection", "_observe", "_observer", "_pool", "_record_wait")

    def __init__(
        self,
        pool: Connections,
        record_wait: Callable[[float], None],
        observe: Callable[[], QueryObserver | None] | None,
    ) -> None:
        self._pool = pool
        self._record_wait = record_wait
        self._observe = observe
        self._observer: QueryObserver | None = None
        self._connection: Connection

    async def __aenter__(self) -> Connection:
        started = time.perf_counter()
        self._connection = await self._pool.acquire()
        self._record_wait(time.perf_counter() - started)
        if self._observe is not None and (observer := self._observe()) is not None:
            self._observer = observer
            self._connection.add_query_logger(observer)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._observer is not None:
            self._connection.remove_query_logger(self._observer)
        if error is None:
            self._pool.release(self._connection, reusable=True)
            return
        self._pool.release(self._connection, reusable=leaves_reusable(error))
        if is_read_only_error(error):
            self._pool.suspect_read_only()
        TRANSLATE_ERRORS.__exit__(kind, error, traceback)
