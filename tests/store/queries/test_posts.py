"""Posts and comments as the database lists them."""

import uuid

from devnest.store import Database, create_comment, create_post, list_comments, list_posts

SIZES = (3, 0, 5, 1, 8, 2, 900, 1, 4)


def expected(sizes: list[int], limit: int, max_bytes: int) -> int:
    """How many are listed: the first, and each that has at most so many bytes before it."""
    count, before = 0, 0
    for size in sizes[:limit]:
        if before > max_bytes:
            break
        count += 1
        before += min(size, max_bytes)
    return count


async def account(database: Database) -> uuid.UUID:
    name = uuid.uuid4().hex
    row: uuid.UUID = await database.fetch_value(
        "INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $2, '') RETURNING id",
        uuid.uuid4(), name,
    )  # fmt: skip
    return row


async def test_a_list_ends_in_the_database(database: Database) -> None:
    """Where its texts have the bytes that are wanted, and one item later.

    A character counts as its bytes in UTF-8.
    """
    author_id, tag = await account(database), uuid.uuid4().hex
    posts = [await create_post(database, author_id, "é", "x" * size, [tag]) for size in SIZES]
    comments = [
        await create_comment(database, posts[0].id, author_id, "x" * size) for size in SIZES
    ]
    for limit in range(1, len(SIZES) + 2):
        for max_bytes in (0, 1, 2, 3, 7, 10, 25, 900, 902, 5000):
            listed = await list_posts(database, limit, max_bytes=max_bytes, tag=tag)
            wanted = expected([size + 2 for size in reversed(SIZES)], limit, max_bytes)
            assert listed == posts[::-1][:wanted], (limit, max_bytes)
            below = await list_comments(database, posts[0].id, limit, max_bytes=max_bytes)
            assert below == comments[: expected(list(SIZES), limit, max_bytes)], (limit, max_bytes)
