"""The schema: made once, checked, and refused where it is not this version's."""

import asyncio
import uuid
from pathlib import Path

import asyncpg
import pytest

import devnest.store.migrations
from devnest.store import (
    Database,
    DatabaseUnavailable,
    EmbeddedPostgres,
    Opening,
    RefreshRefused,
    SchemaBehind,
    create_account,
    create_session,
    migrate,
    refresh_session,
)
from devnest.store.migrations import HEAD


@pytest.fixture
async def empty(postgres: EmbeddedPostgres) -> str:
    """The URL of an empty database."""
    name = f"d{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres.url, database="postgres")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return postgres.url.replace("/devnest?", f"/{name}?")


def test_the_newest_revision_is_the_one_named() -> None:
    """`HEAD` is read at every start, without Alembic."""
    from alembic.config import Config  # here: half a second for each process that collects the tests
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(devnest.store.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_an_empty_database_is_behind_until_it_is_migrated(empty: str) -> None:
    """And the second time there is nothing to do."""
    async with Database(empty) as database:
        with pytest.raises(SchemaBehind, match="devnest migrate"):
            await database.check_schema()
    assert await migrate(empty)
    assert not await migrate(empty)
    async with Database(empty) as database:
        await database.check_schema()


async def test_several_at_once_migrate_once(empty: str) -> None:
    """They wait for one another in the database."""
    await asyncio.gather(*(migrate(empty) for _ in range(3)))
    async with Database(empty) as database:
        assert await database.fetch_value("SELECT count(*) FROM alembic_version") == 1


async def test_a_newer_schema_is_left_alone(empty: str) -> None:
    """An old DevNest does not touch it."""
    await migrate(empty)
    async with Database(empty) as database:
        await database.fetch("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaBehind, match="9999"):
        await migrate(empty)


async def test_no_server_is_told_plainly() -> None:
    """Refused connections are a condition, not a crash."""
    with pytest.raises(DatabaseUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")


async def test_sessions_from_before_tokens_were_numbered_go_on(empty: str) -> None:
    """A lost answer is given again, and an old token is a reuse once its successor was used."""
    await migrate(empty)
    async with Database(empty) as database:
        account = await create_account(database, "ada", "ada@example.org", "hash")
        session = await create_session(database, Opening(account.id, "hash"))
        assert session is not None
        tokens = [session.refresh_token]
        for _ in range(2):
            tokens.append((await refresh_session(database, tokens[-1])).refresh_token)
    await downgrade(empty, "0006")
    assert await migrate(empty)
    async with Database(empty) as database:
        assert (await refresh_session(database, tokens[1])).refresh_token == tokens[2]
        await refresh_session(database, tokens[2])
        with pytest.raises(RefreshRefused, match="reused"):
            await refresh_session(database, tokens[1])


async def downgrade(url: str, revision: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection, NullPool
    from sqlalchemy.ext.asyncio import create_async_engine

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(devnest.store.migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()
