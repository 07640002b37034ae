"""Posts, newest first."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from devnest.store.database import Database
from devnest.store.errors import AuthorGone

__all__ = ["Author", "Post", "create_post", "find_post", "list_posts"]


class Author(msgspec.Struct, frozen=True):
    """Who wrote a post."""

    id: UUID
    username: str


class Post(msgspec.Struct, frozen=True):
    """A post as everyone sees it."""

    id: UUID
    author: Author
    title: str
    body: str
    tags: list[str]
    created_at: datetime
    updated_at: datetime


COLUMNS = "p.id, a.id AS author_id, a.username, p.title, p.body, p.tags, p.created_at, p.updated_at"
ONE = f"SELECT {COLUMNS} FROM posts p JOIN accounts a ON a.id = p.author_id WHERE p.id = $1"  # noqa: S608 (constants only)
INSERT = f"""
WITH p AS (INSERT INTO posts (id, author_id, title, body, tags) VALUES ($1, $2, $3, $4, $5) RETURNING *)
SELECT {COLUMNS} FROM p JOIN accounts a ON a.id = p.author_id"""  # noqa: S608 (constants only)


async def create_post(database: Database, author_id: UUID, title: str, body: str, tags: list[str]) -> Post:
    """Store a post; raises `AuthorGone` where the account no longer exists."""
    try:
        row = await database.fetch_row(INSERT, uuid7(), author_id, title, body, tags)
    except asyncpg.ForeignKeyViolationError as error:
        raise AuthorGone("the account no longer exists") from error
    assert row is not None
    return _post(row)


async def find_post(database: Database, post_id: UUID) -> Post | None:
    """The post with this id."""
    row = await database.fetch_row(ONE, post_id)
    return None if row is None else _post(row)


async def list_posts(
    database: Database,
    limit: int,
    *,
    before: UUID | None = None,
    author: str | None = None,
    tag: str | None = None,
) -> list[Post]:
    """At most `limit` posts, newest first, of one author (a username) or with one tag, older than the post `before`.

    Each set of conditions is a statement of its own, so that PostgreSQL plans each for the index that serves it.
    """
    conditions, arguments = [], list[object]([limit])
    for condition, value in (
        ("p.id < {}", before),
        ("p.author_id = (SELECT id FROM accounts WHERE lower(username) = lower({}))", author),
        ("p.tags @> ARRAY[{}]", tag),
    ):
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = await database.fetch(
        # Values are arguments; only our own conditions are in the text.
        f"SELECT {COLUMNS} FROM posts p JOIN accounts a ON a.id = p.author_id {where}ORDER BY p.id DESC LIMIT $1",  # noqa: S608
        *arguments,
    )
    return [_post(row) for row in rows]


def _post(row: asyncpg.Record) -> Post:
    post_id, author_id, username, title, body, tags, created_at, updated_at = row
    return Post(post_id, Author(author_id, username), title, body, tags, created_at, updated_at)
