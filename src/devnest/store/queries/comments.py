"""Comments on posts, listed oldest first."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import AuthorGone
from devnest.store.queries.idempotency import Claim, run_once
from devnest.store.queries.posts import MAX_LISTED_BYTES, Author

__all__ = ["Comment", "create_comment", "delete_comment", "list_comments"]

# A missing post, or one that is being deleted, is an ordinary result. It must not be an SQL error,
# because PostgreSQL would log each.
# `FOR KEY SHARE` is the lock that the foreign key takes anyway. It keeps the post until the comment
# is stored.
# The result has a row if the post exists, and a comment in that row if the author's account exists.
INSERT = """
WITH post AS (
    SELECT id FROM posts WHERE id = $2 FOR KEY SHARE
), author AS (
    SELECT id, username FROM accounts WHERE id = $3
), written AS (
    INSERT INTO comments (id, post_id, author_id, body) SELECT $1, post.id, author.id, $4
        FROM post, author
    RETURNING id, author_id, body, created_at
)
SELECT written.id, author.id, author.username, written.body, written.created_at
FROM post LEFT JOIN (written JOIN author ON author.id = written.author_id) ON true"""


class Comment(msgspec.Struct, frozen=True):
    """A comment as everyone sees it."""

    id: UUID
    author: Author
    body: str
    created_at: datetime


# Bounded like a list of posts: the texts before the last comment fit into one page.
PAGE = """
SELECT id, author_id, (SELECT username FROM accounts WHERE accounts.id = author_id),
    body, created_at
FROM (
    SELECT *, sum(least(octet_length(body), $4)) OVER (
        ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT id, author_id, body, created_at FROM comments
        WHERE post_id = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3) AS page
) AS page
WHERE bytes_before IS NULL OR bytes_before <= $4 ORDER BY id"""


async def create_comment(
    database: Database, post_id: UUID, author_id: UUID, body: str, claim: Claim | None = None
) -> Comment | None:
    """Store a comment, once per claim.

    Args:
        database: Where the comment is stored.
        post_id: The post.
        author_id: The account of its author.
        body: Its text.
        claim: The idempotency key of the request, or None.

    Returns:
        None if there is no such post.

    Raises:
        AuthorGone: The account no longer exists.
        KeyReused: The claim's key was used for another request.
    """

    async def make(connection: Connection) -> Comment | None:
        row = await connection.fetchrow(INSERT, uuid7(), post_id, author_id, body)
        if row is None:
            return None
        if row[0] is None:
            raise AuthorGone("the account no longer exists")
        return _comment(row)

    return await run_once(database, claim, author_id, Comment, make)


async def list_comments(
    database: Database,
    post_id: UUID,
    limit: int,
    *,
    max_bytes: int = MAX_LISTED_BYTES,
    after: UUID | None = None,
) -> list[Comment] | None:
    """List the comments on a post, oldest first.

    Args:
        database: Where the comments are.
        post_id: The post.
        limit: The most comments.
        max_bytes: The most bytes of their texts, as in `list_posts`.
        after: Only comments after this one in time.

    Returns:
        None if there is no such post.
    """
    rows = await database.fetch(PAGE, post_id, after, limit, max_bytes)
    if not rows and not await database.fetch_value(
        "SELECT EXISTS (SELECT 1 FROM posts WHERE id = $1)", post_id
    ):
        return None
    return [_comment(row) for row in rows]


async def delete_comment(
    database: Database, post_id: UUID, comment_id: UUID, author_id: UUID
) -> bool | None:
    """Delete a comment of the account `author_id`.

    Returns:
        False if somebody else wrote it, None if there is no such comment.
    """
    deleted: bool | None = await database.fetch_value(
        "WITH found AS"
        " (SELECT id, author_id = $3 AS own FROM comments WHERE id = $2 AND post_id = $1),"
        " gone AS (DELETE FROM comments c USING found WHERE c.id = found.id AND own)"
        " SELECT own FROM found",
        post_id, comment_id, author_id,
    )  # fmt: skip
    return deleted


def _comment(row: asyncpg.Record) -> Comment:
    comment_id, author_id, username, body, created_at = row
    return Comment(comment_id, Author(author_id, username), body, created_at)
