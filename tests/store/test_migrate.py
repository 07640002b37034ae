"""The schema: made once, checked, and refused where it is not this version's."""

import asyncio
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

import devnest.store.migrations
from devnest.store import (
    Database,
    DatabaseUnavailable,
    DatabaseUnfit,
    EmbeddedPostgres,
    ForeignDatabase,
    Opening,
    RefreshRefused,
    SchemaBehind,
    SchemaNewer,
    check_schema,
    create_account,
    create_session,
    delete_account,
    migrate,
    refresh_session,
    search_database,
    search_posts,
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
    assert revisions()[-1].revision == HEAD


async def test_an_empty_database_is_behind_until_it_is_migrated(empty: str) -> None:
    """And the second time there is nothing to do."""
    async with Database(empty) as database:
        with pytest.raises(SchemaBehind, match="devnest migrate"):
            await check_schema(database)
    assert await migrate(empty)
    assert not await migrate(empty)
    async with Database(empty) as database:
        await check_schema(database)


@pytest.mark.parametrize(
    ("locale", "told"), [("LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", False), ("", True)]
)
async def test_a_locale_that_search_suffers_from_is_told(
    postgres: EmbeddedPostgres, locale: str, told: bool
) -> None:
    """Under LC_CTYPE C a capital letter outside ASCII is another letter."""
    name = f"d{uuid.uuid4().hex}"
    provider = locale or "LOCALE_PROVIDER libc"
    made = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' {provider}"
    await ask(postgres.url.replace("/devnest?", "/postgres?"), made)
    with capture_logs() as lines:
        assert await migrate(postgres.url.replace("/devnest?", f"/{name}?"))
    assert bool(lines) is told
    if told:
        assert (lines[0]["log_level"], lines[0]["needs"]) == ("warning", "an LC_CTYPE other than C")


async def test_several_at_once_migrate_once(empty: str) -> None:
    """They wait for one another in the database."""
    await asyncio.gather(*(migrate(empty) for _ in range(3)))
    assert await ask(empty, "SELECT version_num FROM devnest_schema") == [(HEAD,)]


def test_each_revision_says_which_programs_it_still_serves() -> None:
    """`oldest_program` is a revision there is, not newer than its own, and never goes back."""
    oldest = "0008"
    for revision in revisions():
        if revision.revision >= "0008":
            assert oldest <= revision.module.oldest_program <= revision.revision, revision.revision
            oldest = revision.module.oldest_program


async def test_the_schema_says_which_programs_it_serves(empty: str) -> None:
    """What the newest revision says."""
    await migrate(empty)
    newest = revisions()[-1].module
    assert await ask(empty, "SELECT * FROM devnest_schema") == [
        (newest.revision, newest.oldest_program)
    ]


async def test_a_newer_schema_that_serves_this_program_is_served(empty: str) -> None:
    """Another node may have migrated already; this one has nothing to migrate."""
    await migrate(empty)
    await ask(empty, f"UPDATE devnest_schema SET version_num = '9999', oldest_program = '{HEAD}'")  # noqa: S608 (a constant)
    async with Database(empty) as database:
        await check_schema(database)
    assert not await migrate(empty, to_serve=True)
    with pytest.raises(SchemaNewer, match="9999"):
        await migrate(empty)


async def test_a_newer_schema_that_does_not_is_left_alone(empty: str) -> None:
    """An old DevNest does not touch it."""
    await migrate(empty)
    await ask(empty, "UPDATE devnest_schema SET version_num = '9999', oldest_program = '9998'")
    async with Database(empty) as database:
        with pytest.raises(SchemaNewer, match="9998"):
            await check_schema(database)
    for to_serve in (False, True):
        with pytest.raises(SchemaNewer, match="9999"):
            await migrate(empty, to_serve=to_serve)


FOREIGN = {
    "0007": "CREATE TABLE alembic_version AS SELECT '0007' AS version_num",
    "0008": "CREATE TABLE alembic_version AS SELECT '0008' AS version_num",
    "zzz": "CREATE TABLE alembic_version AS SELECT 'zzz' AS version_num",
    "two rows": "CREATE TABLE alembic_version AS VALUES ('0007'), ('0008')",
    "no row": "CREATE TABLE alembic_version (version_num text)",
    "another column": "CREATE TABLE alembic_version (version integer)",
    "a table": "CREATE TABLE accounts (id integer)",
    "a table elsewhere": "CREATE SCHEMA other; CREATE TABLE other.things (id integer)",
    "a view": "CREATE VIEW answers AS SELECT 42",
    "a function": "CREATE FUNCTION answer() RETURNS integer LANGUAGE sql AS 'SELECT 42'",
    "a type": "CREATE TYPE colour AS ENUM ('red')",
    "a mark without rows": "CREATE TABLE devnest_schema (version_num text, oldest_program text)",
    "a mark of two rows": "CREATE TABLE devnest_schema AS SELECT '0008' version_num, '0008' oldest_program"
    " UNION ALL SELECT '0009', '0008'",
    "a mark of another kind": "CREATE TABLE devnest_schema (id integer)",
}


@pytest.mark.parametrize("statement", FOREIGN.values(), ids=FOREIGN.keys())
async def test_what_is_not_ours_is_refused_and_not_touched(empty: str, statement: str) -> None:
    """By `serve` and by `migrate`; whatever its `alembic_version` says."""
    await ask(empty, statement)
    before = await ask(empty, EVERYTHING)
    with pytest.raises(DatabaseUnfit):
        await migrate(empty)
    async with Database(empty) as database:
        with pytest.raises(DatabaseUnfit):
            await check_schema(database)
    assert await ask(empty, EVERYTHING) == before


@pytest.mark.parametrize(
    ("version", "oldest"),
    [(None, None), ("", ""), ("13", "0001"), ("0009.5", "0001"), ("zzz", "0001"), (HEAD, "zzz")],
)
async def test_a_mark_that_no_devnest_wrote_is_refused(
    empty: str, version: str | None, oldest: str | None
) -> None:
    """Be it of a later revision in the order of texts, or of none."""
    connection = await asyncpg.connect(empty)
    await connection.execute("CREATE TABLE devnest_schema (version_num text, oldest_program text)")
    await connection.execute("INSERT INTO devnest_schema VALUES ($1, $2)", version, oldest)
    await connection.close()
    with pytest.raises(DatabaseUnfit, match="not as DevNest makes it"):
        await migrate(empty)
    async with Database(empty) as database:
        with pytest.raises(DatabaseUnfit, match="not as DevNest makes it"):
            await check_schema(database)


@pytest.mark.parametrize(
    "setting", ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
)
async def test_limits_of_the_database_are_not_for_migrations(empty: str, setting: str) -> None:
    """A table may be large, and what reads it may have to end first."""
    connection = await asyncpg.connect(empty)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET {setting} = 1")
    await connection.close()
    assert await migrate(empty)


async def test_extensions_of_the_host_are_nobodys(empty: str) -> None:
    """Providers put some into every database."""
    await ask(empty, "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION hstore")
    assert await migrate(empty)


async def test_a_database_from_before_the_mark_is_taken_over(empty: str) -> None:
    """Exactly that; with one thing more it is another's."""
    await migrate(empty)
    async with Database(empty) as database:
        await create_account(database, "ada", "ada@example.org", "hash")
    await downgrade(empty, "0007")
    await ask(
        empty,
        "ALTER TABLE devnest_schema DROP COLUMN oldest_program; ALTER TABLE devnest_schema RENAME TO alembic_version",
    )
    async with Database(empty) as database:
        with pytest.raises(SchemaBehind, match="0007"):
            await check_schema(database)
    await ask(empty, "CREATE TABLE invoices (id integer)")
    with pytest.raises(ForeignDatabase):
        await migrate(empty)
    await ask(empty, "DROP TABLE invoices; UPDATE alembic_version SET version_num = '0006'")
    with pytest.raises(ForeignDatabase):
        await migrate(empty)
    await ask(empty, "UPDATE alembic_version SET version_num = '0007'")
    assert await migrate(empty)
    assert await ask(empty, "SELECT username FROM accounts") == [("ada",)]


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
            tokens.append((await refresh_session(database, tokens[-1], "192.0.2.1")).refresh_token)
    await downgrade(empty, "0006")
    assert await migrate(empty)
    async with Database(empty) as database:
        assert (await refresh_session(database, tokens[1], "192.0.2.1")).refresh_token == tokens[2]
        await refresh_session(database, tokens[2], "192.0.2.1")
        with pytest.raises(RefreshRefused, match="reused"):
            await refresh_session(database, tokens[1], "192.0.2.1")


async def test_accounts_without_an_address_survive_the_way_there_and_back(empty: str) -> None:
    """One that was deleted before addresses could be missing has none afterwards.

    Unconfirmed ones count from now.
    """
    await migrate(empty)
    async with Database(empty) as database:
        accounts = [
            await create_account(database, name, f"{name}@example.org", "hash")
            for name in ("ada", "bob")
        ]
        assert await delete_account(database, accounts[0].id, "hash") == []
    await downgrade(empty, "0010")
    assert await ask(empty, "SELECT email LIKE 'none:%' FROM accounts ORDER BY id") == [
        (True,),
        (False,),
    ]
    assert await migrate(empty)
    after = "SELECT email, email_given_at > now() - interval '1 hour' FROM accounts ORDER BY id"
    assert await ask(empty, after) == [(None, True), ("bob@example.org", True)]


EVERYTHING = "SELECT oid, xmin, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"


async def ask(url: str, sql: str) -> list[tuple[object, ...]]:
    """Run statements; the rows of a single one."""
    connection = await asyncpg.connect(url)
    try:
        if ";" in sql:
            await connection.execute(sql)
            return []
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def revisions() -> list[Any]:
    """All of them, oldest first."""
    from alembic.config import (
        Config,  # here: half a second for each process that collects the tests
    )
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(devnest.store.migrations.__file__).parent))
    return list(ScriptDirectory.from_config(config).walk_revisions())[::-1]


async def test_posts_from_before_words_were_stored_are_found(empty: str) -> None:
    """Also one with as many words as a post may have."""
    await migrate(empty)
    await downgrade(empty, "0013")
    letters = [chr(0x20000 + number) for number in range(25_000)]
    bodies = ["an early post", " ".join(f"{a}-{b}" for a, b in pairwise(letters))[:50_000]]
    async with Database(empty) as database:
        account = await create_account(database, "ada", "ada@example.org", "hash")
        for body in bodies:
            await database.fetch(
                "INSERT INTO posts VALUES ($1, $2, 'old', $3, '{}')", uuid7(), account.id, body
            )
    assert await migrate(empty)
    async with search_database(empty, 1) as searching:
        assert [
            post.body for post in await search_posts(searching, '"early post" or nothing', 9)
        ] == bodies[:1]
        assert [
            post.body for post in await search_posts(searching, f"old {letters[7]}", 9)
        ] == bodies[1:]


async def downgrade(url: str, revision: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection, NullPool
    from sqlalchemy.ext.asyncio import create_async_engine

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option(
            "script_location", str(Path(devnest.store.migrations.__file__).parent)
        )
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()
