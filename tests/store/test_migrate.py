"""The schema: made once, checked, and refused where it is not this version's."""

import asyncio
import uuid
from pathlib import Path

import asyncpg
import pytest

import devnest.store.migrations
from devnest.store import Database, DatabaseUnavailable, EmbeddedPostgres, SchemaBehind, migrate
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
