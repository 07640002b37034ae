"""Posts, listed newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import AuthorGone
from devnest.store.queries.idempotency import Claim, run_once
from devnest.store.queries.identifiers import folded

__all__ = [
    "MAX_LISTED_BYTES",
    "Author",
    "Draft",
    "Post",
    "change_post",
    "create_post",
    "create_posts",
    "delete_post",
    "find_post",
    "list_posts",
]


class Author(msgspec.Struct, frozen=True):
    """The author of a post or a comment."""

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


class Draft(NamedTuple):
    """A post that is to be stored."""

    author_id: UUID
    title: str
    body: str
    tags: list[str]


MAX_LISTED_BYTES = 1024 * 1024  # of the texts in one list, without its last item
SEPARATOR = "\x1f"  # a control character, which no tag contains
COLUMNS = "p.id, a.id AS author_id, a.username, p.title, p.body, p.tags, p.created_at, p.updated_at"
ONE = f"""
SELECT {COLUMNS} FROM posts p JOIN accounts a ON a.id = p.author_id WHERE p.id = $1"""  # noqa: S608
# Not `*`: the column with the words of a post can hold half a megabyte, and only searches need it.
STORED = "id, author_id, title, body, tags, created_at, updated_at"
# No row is inserted if the author has no account. A violated foreign key would be an error in
# PostgreSQL's log.
INSERT = f"""
WITH a AS (SELECT id, username FROM accounts WHERE id = $2),
    p AS (INSERT INTO posts (id, author_id, title, body, tags) SELECT $1, id, $3, $4, $5 FROM a
        RETURNING {STORED})
SELECT {COLUMNS} FROM p, a"""  # noqa: S608
# Arrays of arrays must be rectangular, so the tags of each row are passed as one text.
INSERT_ALL = f"""
WITH p AS (
    INSERT INTO posts (id, author_id, title, body, tags)
    SELECT n.id, n.author_id, n.title, n.body, string_to_array(n.tags, E'{SEPARATOR}')
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
        AS n (id, author_id, title, body, tags)
    JOIN accounts ON accounts.id = n.author_id RETURNING {STORED})
SELECT {COLUMNS} FROM p JOIN accounts a ON a.id = p.author_id"""  # noqa: S608
# The time of the last change identifies the version, so it must grow even if the clock does not.
UPDATE = f"""
WITH p AS (UPDATE posts SET title = coalesce($4, title), body = coalesce($5, body),
    tags = coalesce($6, tags),
        updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
    WHERE id = $1 AND author_id = $2 AND ($3::timestamptz[] IS NULL OR updated_at = ANY($3))
        AND updated_at <> ALL($7::timestamptz[]) RETURNING {STORED})
SELECT {COLUMNS} FROM p JOIN accounts a ON a.id = p.author_id"""  # noqa: S608

# A running sum of lengths ends the page in the database. PostgreSQL knows the length of a long text
# without reading it, so it reads only the texts that it returns. The author is looked up by a
# subquery, which no wrong estimate can turn into a join with all accounts.
PAGE = """
SELECT id, author_id, (SELECT username FROM accounts WHERE accounts.id = author_id),
    title, body, tags, created_at,
    updated_at
FROM (
    SELECT *, sum(least(octet_length(title) + octet_length(body), $2)) OVER (
        ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT id, author_id, title, body, tags, created_at, updated_at FROM posts
        {where} ORDER BY id DESC LIMIT $1) AS page
) AS page
WHERE bytes_before IS NULL OR bytes_before <= $2 ORDER BY id DESC"""


async def create_post(
    database: Database,
    author_id: UUID,
    title: str,
    body: str,
    tags: list[str],
    claim: Claim | None = None,
) -> Post:
    """Store a post, once per claim.

    Args:
        database: Where the post is stored.
        author_id: The account of its author.
        title: Its title.
        body: Its text.
        tags: Its tags.
        claim: The idempotency key of the request, or None.

    Raises:
        AuthorGone: The account no longer exists.
        KeyReused: The claim's key was used for another request.
    """

    async def make(connection: Connection) -> Post:
        row = await connection.fetchrow(INSERT, uuid7(), author_id, title, body, tags)
        if row is None:
            raise AuthorGone("the account no longer exists")
        return _post(row)

    post = await run_once(database, claim, author_id, Post, make)
    assert post is not None
    return post


async def create_posts(database: Database, drafts: Sequence[Draft]) -> list[Post | Exception]:
    """Store several posts by one statement.

    Returns:
        For each draft in order, its post or the exception that prevented it, such as `AuthorGone`.
    """
    if len(drafts) == 1:
        return [await _outcome(database, drafts[0])]
    ids = [uuid7() for _ in drafts]
    tags = [SEPARATOR.join(draft.tags) for draft in drafts]
    columns = zip(*((draft.author_id, draft.title, draft.body) for draft in drafts), strict=True)
    try:
        rows = await database.fetch(INSERT_ALL, ids, *columns, tags)
    # One draft is not valid, or an account is being deleted: each draft is tried alone.
    except asyncpg.PostgresError:
        return [await _outcome(database, draft) for draft in drafts]
    stored = {post.id: post for post in map(_post, rows)}
    return [stored.get(post_id) or AuthorGone("the account no longer exists") for post_id in ids]


async def _outcome(database: Database, draft: Draft) -> Post | Exception:
    try:
        return await create_post(database, draft.author_id, draft.title, draft.body, draft.tags)
    except Exception as error:
        return error


async def find_post(database: Database, post_id: UUID) -> Post | None:
    """Return the post with this id, or None."""
    row = await database.fetch_row(ONE, post_id)
    return None if row is None else _post(row)


async def change_post(
    database: Database,
    post_id: UUID,
    author_id: UUID,
    allowed_versions: Sequence[datetime] | None,
    *,
    excluded_versions: Sequence[datetime] = (),
    title: str | None = None,
    body: str | None = None,
    tags: list[str] | None = None,
) -> Post | None:
    """Change the given fields of a post.

    Args:
        database: Where the post is.
        post_id: The post.
        author_id: The account that must be its author.
        allowed_versions: The times of the last change that are accepted, or None for any.
        excluded_versions: The times of the last change that are not accepted.
        title: The new title, or None to keep it.
        body: The new text, or None to keep it.
        tags: The new tags, or None to keep them.

    Returns:
        The changed post, or None if there is no such post of this author and version.
    """
    row = await database.fetch_row(
        UPDATE, post_id, author_id, allowed_versions, title, body, tags, excluded_versions
    )
    return None if row is None else _post(row)


async def delete_post(
    database: Database,
    post_id: UUID,
    author_id: UUID,
    allowed_versions: Sequence[datetime] | None,
    *,
    excluded_versions: Sequence[datetime] = (),
) -> bool:
    """Delete a post and its comments, under the conditions of `change_post`.

    Returns:
        False if there is no such post of this author and version.
    """
    deleted = await database.fetch_value(
        "DELETE FROM posts WHERE id = $1 AND author_id = $2"
        " AND ($3::timestamptz[] IS NULL OR updated_at = ANY($3))"
        " AND updated_at <> ALL($4::timestamptz[]) RETURNING true",
        post_id, author_id, allowed_versions, excluded_versions,
    )  # fmt: skip
    return deleted is not None


async def list_posts(
    database: Database,
    limit: int,
    *,
    max_bytes: int = MAX_LISTED_BYTES,
    before: UUID | None = None,
    author: str | None = None,
    tag: str | None = None,
    words: str | None = None,
) -> list[Post]:
    """List posts, newest first.

    Each combination of conditions is a statement of its own, so that PostgreSQL plans each for the
    best index.

    Args:
        database: Where the posts are.
        limit: The most posts.
        max_bytes: The most bytes of their texts. The first post beyond it is included, so that a
            caller that may not exceed it learns that there are more.
        before: Only posts before this one in time.
        author: Only posts of this username.
        tag: Only posts with this tag.
        words: Only posts with these words, checked by `search_posts`.
    """
    conditions, arguments = [], list[object]([limit, max_bytes])
    for condition, value in (
        ("id < {}", before),
        (
            "author_id = (SELECT id FROM accounts WHERE lower(username) = {})",
            author and folded(author),
        ),
        ("tags @> ARRAY[{}]", tag),
        ("words @@ websearch_to_tsquery('simple', {})", words),
    ):
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = await database.fetch(PAGE.format(where=where), *arguments)
    return [_post(row) for row in rows]


def _post(row: asyncpg.Record) -> Post:
    post_id, author_id, username, title, body, tags, created_at, updated_at = row
    return Post(post_id, Author(author_id, username), title, body, tags, created_at, updated_at)
