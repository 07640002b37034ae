"""What may happen any day is no error to PostgreSQL, which would write each into its log."""

import asyncio
from uuid import uuid4

import pytest

from devnest.store import (
    Account,
    AuthorGone,
    Claim,
    Database,
    Draft,
    Opening,
    Post,
    create_account,
    create_comment,
    create_post,
    create_posts,
    create_session,
    delete_post,
    list_comments,
)

pytestmark = pytest.mark.usefixtures("no_error_is_logged")


@pytest.fixture
async def author(database: Database) -> Account:
    name = f"u{uuid4().hex[:20]}"
    return await create_account(database, name, f"{name}@example.org", "hash")


@pytest.fixture
async def post(database: Database, author: Account) -> Post:
    return await create_post(database, author.id, "t", "b", [])


async def somebody_waits(database: Database) -> None:
    """Until a statement waits for a lock, of which PostgreSQL tells nobody."""
    while not await database.fetch_value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.01)


async def test_no_comment_on_a_post_that_is_not_there(database: Database, author: Account) -> None:
    """With a key and without."""
    assert await create_comment(database, uuid4(), author.id, "b") is None
    assert (
        await create_comment(database, uuid4(), author.id, "b", Claim(uuid4().bytes, b"f")) is None
    )


async def test_no_comment_on_a_post_that_is_being_deleted(
    database: Database, author: Account, post: Post
) -> None:
    """Whoever is second finds what the first has done."""
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute("DELETE FROM posts WHERE id = $1", post.id)
            writing = asyncio.create_task(create_comment(database, post.id, author.id, "b"))
            await somebody_waits(database)
        assert await writing is None


async def test_a_post_goes_with_the_comment_that_came_first(
    database: Database, author: Account, post: Post
) -> None:
    """The deletion waits for it."""
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO comments (id, post_id, author_id, body) VALUES ($1, $2, $3, 'b')",
                uuid4(), post.id, author.id,
            )  # fmt: skip
            deleting = asyncio.create_task(delete_post(database, post.id, author.id, None))
            await somebody_waits(database)
        assert await deleting
    assert await list_comments(database, post.id, 10) is None


async def test_who_has_no_account_writes_nothing(
    database: Database, author: Account, post: Post
) -> None:
    """A post, a comment, a session; alone, in a group, and with a key."""
    for claim in (None, Claim(uuid4().bytes, b"f")):
        with pytest.raises(AuthorGone):
            await create_post(database, uuid4(), "t", "b", [], claim)
        with pytest.raises(AuthorGone):
            await create_comment(database, post.id, uuid4(), "b", claim)
    kinds = [
        type(one)
        for one in await create_posts(
            database, [Draft(a, "t", "b", []) for a in (author.id, uuid4())]
        )
    ]
    assert kinds == [Post, AuthorGone]
    assert await create_session(database, Opening(uuid4(), "hash")) is None
    assert await list_comments(database, post.id, 10) == []


async def test_a_key_that_comes_many_times_at_once(
    database: Database, author: Account, post: Post
) -> None:
    """Is one comment, and one answer for all."""
    claim = Claim(uuid4().bytes, b"f")
    written = await asyncio.gather(
        *(create_comment(database, post.id, author.id, "b", claim) for _ in range(8))
    )
    assert written == [written[0]] * 8
    assert await list_comments(database, post.id, 10) == [written[0]]
