"""Loans of connections: bounded, fair, and never of one that somebody's statement still runs in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import asyncpg
import psutil
import pytest

from devnest.store import Database, DatabaseUnavailable, EmbeddedPostgres
from devnest.store import connections as module
from devnest.store.connections import Connection, Connections

RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND wait_event = 'PgSleep'"


@pytest.fixture
async def pair(postgres: EmbeddedPostgres, database: Database) -> AsyncIterator[Connections]:
    """At most two."""
    connections = Connections(postgres.url, 2, 60.0, timeout=60.0)
    yield connections
    await connections.close(60.0)
    assert connections.idle == 0


async def test_the_connection_given_back_last_is_lent_first(pair: Connections) -> None:
    """So that the spare ones rest."""
    first, second = await pair.acquire(), await pair.acquire()
    pair.release(first, reusable=True)
    pair.release(second, reusable=True)
    assert (pair.idle, pair.used) == (2, 0)
    assert await pair.acquire() is second
    pair.release(second, reusable=True)


async def test_who_waits_longest_is_served_first(pair: Connections) -> None:
    """And never more than the bound are open."""
    first, second = await pair.acquire(), await pair.acquire()
    waiting = [asyncio.create_task(pair.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    pair.release(first, reusable=True)
    assert await waiting[0] is first
    pair.release(second, reusable=True)
    assert await waiting[1] is second
    waiting[2].cancel()
    with suppress(asyncio.CancelledError):
        await waiting[2]
    pair.release(first, reusable=True)
    pair.release(second, reusable=True)
    assert (pair.idle, pair.used) == (2, 0)


async def test_an_interrupted_connection_is_replaced_for_whoever_waits(pair: Connections) -> None:
    """Its statement may still run."""
    first, second = await pair.acquire(), await pair.acquire()
    waiting = asyncio.create_task(pair.acquire())
    await asyncio.sleep(0)
    pair.release(first, reusable=False)
    third = await waiting
    assert third not in (first, second)
    assert first.is_closed()
    assert await third.fetchval("SELECT 1") == 1
    for connection in (second, third):
        pair.release(connection, reusable=True)


async def test_a_connection_in_a_transaction_is_not_lent_again(pair: Connections) -> None:
    """What the next one writes would be part of it."""
    connection = await pair.acquire()
    await connection.execute("BEGIN")
    pair.release(connection, reusable=True)
    assert connection.is_closed()
    assert (pair.idle, pair.used) == (0, 0)


async def test_a_stale_connection_is_not_lent(
    pair: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall may have forgotten it."""
    connection = await pair.acquire()
    pair.release(connection, reusable=True)
    monkeypatch.setattr(module, "MAX_IDLE_S", -1.0)
    other = await pair.acquire()
    assert other is not connection
    assert connection.is_closed()
    pair.release(other, reusable=True)


@pytest.mark.parametrize("reusable", [True, False])
async def test_what_comes_while_the_caller_gives_up_goes_to_the_next(
    pair: Connections, reusable: bool
) -> None:
    """Cancelled in the very turn of the loop in which a connection, or room for one, was handed
    over.
    """
    first, second = await pair.acquire(), await pair.acquire()
    quitter, next_one = (asyncio.create_task(pair.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    pair.release(first, reusable=reusable)
    quitter.cancel()
    got = await next_one
    assert quitter.cancelled()
    assert (got is first) == reusable
    for connection in (got, second):
        pair.release(connection, reusable=True)
    assert (pair.idle, pair.used) == (2, 0)


async def test_the_bound_holds_where_connections_die_while_others_wait(
    postgres: EmbeddedPostgres, pair: Connections
) -> None:
    """Those that die together make room once, however often it happens."""
    used = [await pair.acquire(), await pair.acquire()]
    killer = await asyncpg.connect(postgres.url)
    for _ in range(3):
        waiting = [asyncio.create_task(pair.acquire()) for _ in used]
        await asyncio.sleep(0)
        await killer.execute(
            "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", backends(used)
        )
        while not all(connection.is_closed() for connection in used):
            await asyncio.sleep(0.005)
        waiting.append(
            asyncio.create_task(fail_and_return(pair, used))
        )  # in one turn, before those who wait go on
        used = list(await asyncio.gather(*waiting[:2]))
        assert pair.used == 2
        assert pair._opening is None
        for connection in used:
            pair.release(connection, reusable=True)
        used = [await waiting[2], await pair.acquire()]
        assert (pair.idle, pair.used) == (0, 2)
    for connection in used:
        pair.release(connection, reusable=True)
    await killer.close()


def backends(connections: list[Connection]) -> list[int]:
    return [connection.get_server_pid() for connection in connections]


async def fail_and_return(pair: Connections, dead: list[Connection]) -> Connection:
    for connection in dead:
        pair.release(connection, reusable=True)
    return await pair.acquire()


async def test_nobody_waits_longer_than_the_bound(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    """And who gave up is not in the way of others."""
    connections = Connections(postgres.url, 1, 60.0)
    only = await connections.acquire()
    connections._timeout_s = 0.01
    with pytest.raises(DatabaseUnavailable, match=r"no connection was free within 0\.01 s"):
        await connections.acquire()
    connections.release(only, reusable=True)
    assert (connections.idle, connections.used) == (1, 0)
    await connections.close(60.0)


async def test_room_for_a_connection_that_cannot_be_opened_is_given_on(
    postgres: EmbeddedPostgres,
) -> None:
    """A failure to connect costs only its own caller."""
    connections = Connections(f"{postgres.url}&options=-crow_security%3Dnonsense", 1, 60.0)
    failures = await asyncio.gather(
        *(connections.acquire() for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(failure, DatabaseUnavailable) for failure in failures)
    assert (connections.idle, connections.used) == (0, 0)


async def test_a_cancelled_query_leaves_nothing_in_its_connection(database: Database) -> None:
    """Whoever comes next gets an answer to its own question."""
    for _ in range(5):
        query = asyncio.create_task(database.fetch_value("SELECT pg_sleep(600)"))
        while not database.used:
            await asyncio.sleep(0)
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        assert await database.fetch_value("SELECT 7") == 7
    while database.used:  # PostgreSQL has yet to end the last one
        await asyncio.sleep(0.005)


async def test_a_cancelled_statement_counts_until_postgresql_has_ended_it(
    pair: Connections, database: Database
) -> None:
    """Callers who come and go have no more statements running than there may be connections."""
    mark = f"SELECT '{uuid4()}', pg_sleep(600)"
    most = 0
    for _ in range(20):
        connection = await pair.acquire()
        query = asyncio.create_task(connection.fetch(mark))
        while not (running := await database.fetch_value(RUNNING, mark)):
            await asyncio.sleep(0)
        most = max(most, running)
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        pair.release(connection, reusable=False)
    assert most <= 2
    while pair.used:
        await asyncio.sleep(0.005)
    assert await database.fetch_value(RUNNING, mark) == 0


async def test_a_statement_that_does_not_end_is_waited_for_a_while(
    postgres: EmbeddedPostgres, pair: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its connection is cut, and another one may be opened."""
    monkeypatch.setattr(module, "MAX_CANCEL_S", 0.05)
    first, second = await pair.acquire(), await pair.acquire()
    query = asyncio.create_task(first.fetch("SELECT pg_sleep(600)"))
    await asyncio.sleep(0)
    backend = psutil.Process(first.get_server_pid())
    backend.suspend()
    try:
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        pair.release(first, reusable=False)
        third = await pair.acquire()
    finally:
        backend.resume()
    assert await third.fetchval("SELECT 1") == 1
    for connection in (second, third):
        pair.release(connection, reusable=True)


async def test_an_error_of_ours_keeps_the_connection(database: Database) -> None:
    """Only interrupted ones are thrown away."""
    for error in (ValueError("ours"), asyncpg.UniqueViolationError("the server's")):
        with pytest.raises(type(error)):
            async with database.connection() as connection:
                raise error
        assert not connection.is_closed()


async def test_a_server_that_is_not_there_is_unavailable(postgres: EmbeddedPostgres) -> None:
    """At the very beginning as well."""
    with pytest.raises(DatabaseUnavailable):
        async with Database("postgresql://devnest@/devnest?host=/nowhere"):
            pass


async def test_who_waits_takes_what_is_given_back_before_a_new_one_is_open(
    pair: Connections,
) -> None:
    """The new one is for the next, who need not wait then."""
    only = await pair.acquire()
    waiting = asyncio.create_task(pair.acquire())
    await asyncio.sleep(0)
    pair.release(only, reusable=True)
    assert await waiting is only
    assert pair._opening is not None
    await asyncio.wait({pair._opening})
    assert (pair.idle, pair.used) == (1, 1)
    pair.release(only, reusable=True)


async def test_a_burst_is_served_by_what_there_is(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    """Connections are opened one after another, and no more than the bound."""
    connections = Connections(postgres.url, 4, 60.0, timeout=60.0)
    most = 0

    async def ask(number: int) -> int:
        nonlocal most
        connection = await connections.acquire()
        most = max(most, connections.used)
        answer: int = await connection.fetchval("SELECT $1::int", number)
        connections.release(connection, reusable=True)
        return answer

    assert await asyncio.gather(*(ask(number) for number in range(200))) == list(range(200))
    assert 1 <= most <= 4
    assert connections.used == 0
    await connections.close(60.0)


async def test_closing_ends_an_opening(postgres: EmbeddedPostgres, database: Database) -> None:
    """And what would have come of it."""
    connections = Connections(postgres.url, 1, 60.0, timeout=60.0)
    waiting = asyncio.create_task(connections.acquire())
    await asyncio.sleep(0)
    opening = connections._opening
    await connections.close(60.0)
    assert opening is not None
    assert opening.cancelled()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (connections.idle, connections.used) == (0, 0)
