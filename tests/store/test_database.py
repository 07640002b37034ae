"""Queries, and failures of the server underneath them."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from devnest.store import (
    AuthorGone,
    Database,
    DatabaseUnavailable,
    Draft,
    EmbeddedPostgres,
    Opening,
    Post,
    create_account,
    create_post,
    create_posts,
    create_session,
    find_post,
    list_posts,
)


async def test_a_connection_that_is_killed_is_replaced(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    """The query in flight fails as unavailable; the next one works."""
    connection = await asyncpg.connect(postgres.url)
    waiting = asyncio.create_task(database.fetch("SELECT pg_sleep(600)"))
    kill = "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'"
    while not await connection.fetchval(f"{kill} AND pid <> pg_backend_pid()"):
        await asyncio.sleep(0.01)  # PostgreSQL has no event for "this statement runs"
    with pytest.raises(DatabaseUnavailable):
        await waiting
    assert await database.fetch_value("SELECT 1") == 1
    await connection.close()


async def test_postgresql_ends_a_statement_that_takes_too_long(postgres: EmbeddedPostgres) -> None:
    """Whether anybody still waits for it or not; the connection is as good as before."""
    async with Database(postgres.url, connections=1, statement_timeout_s=0.05) as database:
        backend = await database.fetch_value("SELECT pg_backend_pid()")
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await database.fetch("SELECT pg_sleep(600)")
        assert await database.fetch_value("SELECT pg_backend_pid()") == backend


async def test_a_mistake_in_sql_is_not_called_unavailable(database: Database) -> None:
    """Ours to mend, not the caller's to repeat."""
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await database.fetch("SELEC 1")


async def test_no_post_and_no_session_without_an_account(database: Database) -> None:
    """An account may go while its tokens live."""
    with pytest.raises(AuthorGone):
        await create_post(database, uuid4(), "t", "b", [])
    assert await create_session(database, Opening(uuid4(), "hash")) is None


async def test_tokens_are_stored_hashed(database: Database) -> None:
    """The refresh token given out is nowhere in the database."""
    name = f"u{uuid4().hex[:20]}"
    account = await create_account(database, name, f"{name}@example.org", "hash")
    session = await create_session(database, Opening(account.id, "hash"))
    assert session is not None
    stored = await database.fetch_row(
        "SELECT * FROM refresh_tokens WHERE session_id = $1", session[0]
    )
    assert stored is not None
    assert session[1] not in str(stored)
    assert len(stored["token_sha256"]) == 32


async def test_pages_use_an_index(database: Database) -> None:
    """A page costs the same however many posts there are."""
    name = f"u{uuid4().hex[:20]}"
    account = await create_account(database, name, f"{name}@example.org", "hash")
    for number in range(5):
        await create_post(database, account.id, f"{number}", "b", ["t"])
    first = await list_posts(database, 2, author=name)
    rest = await list_posts(database, 10, before=first[-1].id, author=name)
    assert [post.title for post in first + rest] == ["4", "3", "2", "1", "0"]
    await database.fetch("SET enable_seqscan = off")
    plan = await database.fetch("EXPLAIN SELECT * FROM posts ORDER BY id DESC LIMIT 20")
    assert "posts_pkey" in "\n".join(row[0] for row in plan)


async def test_posts_are_stored_together_each_with_its_own(database: Database) -> None:
    """One statement; who has no account is told, and the others have their posts."""
    authors = []
    for _ in range(2):
        name = f"u{uuid4().hex[:20]}"
        authors.append(await create_account(database, name, f"{name}@example.org", "hash"))
    drafts = [
        Draft(authors[0].id, "first", "b1", ["a", "b"]),
        Draft(uuid4(), "nobody's", "b2", []),
        Draft(authors[1].id, "second", "b3", []),
        Draft(authors[0].id, "third", "b4", ["c++"]),
    ]
    outcomes = await create_posts(database, drafts)
    assert isinstance(outcomes[1], AuthorGone)
    for draft, outcome in zip(drafts, outcomes, strict=True):
        if isinstance(outcome, Post):
            assert (outcome.author.id, outcome.title, outcome.body, outcome.tags) == tuple(draft)
            assert await find_post(database, outcome.id) == outcome
    assert [type(outcome) for outcome in outcomes] == [Post, AuthorGone, Post, Post]


async def test_a_post_that_cannot_be_stored_takes_no_other_along(database: Database) -> None:
    """A NUL is refused by PostgreSQL; the API refuses it before."""
    name = f"u{uuid4().hex[:20]}"
    author = await create_account(database, name, f"{name}@example.org", "hash")
    outcomes = await create_posts(
        database, [Draft(author.id, title, "b", []) for title in ("one", "\0", "three")]
    )
    assert [isinstance(outcome, Post) for outcome in outcomes] == [True, False, True]
    assert len(await list_posts(database, 10, author=name)) == 2
