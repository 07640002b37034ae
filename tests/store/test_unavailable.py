"""Which failures of a database are passing conditions, and what becomes of the connection each
came from.
"""

import uuid

import asyncpg
import pytest

from devnest.store import Database, DatabaseUnavailable, EmbeddedPostgres
from devnest.store.connections import Connections

DROPPED = [
    "08006",
    "08P01",
    "25P03",
    "26000",
    "28000",
    "28P01",
    "3D000",
    "3F000",
    "42501",
    "42P01",
    "42P05",
    "53100",
    "53300",
    "57P01",
    "57P03",
    "57P05",
    "58030",
    "F0000",
]
KEPT = ["40001", "40P01", "55P03", "57014"]
OURS = ["22012", "23505", "25P02", "42601", "42703", "42883", "XX000"]


@pytest.mark.parametrize("sqlstate", [*DROPPED, *KEPT, *OURS])
async def test_whole_classes_mean_unavailable(database: Database, sqlstate: str) -> None:
    """What is about the database is a 503 in the end, and a new connection.

    Our own mistakes stay what they are.
    """
    before = await database.fetch_value("SELECT pg_backend_pid()")
    expected = asyncpg.PostgresError if sqlstate in OURS else DatabaseUnavailable
    with pytest.raises(expected, match="said") as caught:
        await database.fetch(
            f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}' USING MESSAGE = 'said', DETAIL = 'told'; END $$"
        )
    if sqlstate not in OURS:
        assert "told" not in str(caught.value)
    assert (await database.fetch_value("SELECT pg_backend_pid()") == before) is (
        sqlstate not in DROPPED
    )


async def test_a_statement_from_before_a_migration_is_prepared_again(database: Database) -> None:
    """In a transaction the driver cannot try it again by itself; whoever asks again can."""
    table = f"t{uuid.uuid4().hex}"
    await database.fetch(f"CREATE TABLE {table} (id integer)")
    async with database.connection() as connection:
        await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608
        await connection.execute(f"ALTER TABLE {table} ALTER id TYPE text")
    with pytest.raises(DatabaseUnavailable):
        async with database.connection() as connection, connection.transaction():
            await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608
    assert await database.fetch(f"SELECT * FROM {table}") == []  # noqa: S608
    await database.fetch(f"DROP TABLE {table}")


async def test_an_argument_that_does_not_fit_is_not_called_unavailable(database: Database) -> None:
    """Ours to mend."""
    with pytest.raises(asyncpg.DataError):
        await database.fetch("SELECT $1::integer", "one")


async def test_no_connection_of_a_read_only_time_stays(postgres: EmbeddedPostgres) -> None:
    """Neither those that were open when it began, nor those that were opened before it ended."""
    name = f"d{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres.url, database="postgres")
    await admin.execute(f"CREATE DATABASE {name}")
    connections = Connections(postgres.url.replace("/devnest?", f"/{name}?"), 4, 60.0, timeout=60.0)
    lent, idle, failing = [await connections.acquire() for _ in range(3)]
    connections.release(idle, reusable=True)
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    connections.release(failing, reusable=False)
    connections.suspect_read_only()
    connections.release(lent, reusable=True)
    assert idle.is_closed()
    assert lent.is_closed()
    first, second = [await connections.acquire() for _ in range(2)]
    connections.release(first, reusable=True)
    assert await connections.acquire() is first  # it can be read from
    connections.release(first, reusable=True)
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert await connections.acquire() is first
    newest = await connections.acquire()
    for connection in (first, second, newest):
        connections.release(connection, reusable=True)
    assert [connection.is_closed() for connection in (first, second, newest)] == [True, True, False]
    await connections.close(60.0)
    await admin.execute(f"DROP DATABASE {name}")
    await admin.close()


async def test_connections_that_only_read_move_with_the_others(postgres: EmbeddedPostgres) -> None:
    """When the server of the others cannot be written to any more, and when there is one again
    that can be.
    """
    async with Database(postgres.url) as main, Database(postgres.url, connections=1) as follower:
        follower.follow(main)
        backends = [await follower.fetch_value("SELECT pg_backend_pid()")]
        with pytest.raises(DatabaseUnavailable):
            async with main.connection():
                raise asyncpg.ReadOnlySQLTransactionError("as a standby says")
        backends.append(await follower.fetch_value("SELECT pg_backend_pid()"))
        await main.fetch("SELECT 1")  # over a new connection, which can be written to
        backends.append(await follower.fetch_value("SELECT pg_backend_pid()"))
        assert len(set(backends)) == 3
