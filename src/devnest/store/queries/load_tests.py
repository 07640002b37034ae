"""Accounts that load tests made: they carry a mark, by which they are found and removed."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.queries.audit import Event, Origin

__all__ = ["LoadTestData", "count_load_tests", "remove_load_tests"]

# What `devnest load` calls its accounts: `u`, eight digits of the run, the generator and a number.
# The address has the same name at a host that no mail reaches (RFC 2606), so that nobody else's
# account is taken for one of them.
MARKED = (
    "username ~ '^u[0-9a-f]{8}x[0-9]{1,2}n[0-9]{1,9}$' AND email = username || '@load.example'"
    " AND deleted_at IS NULL"
)
MAX_REMOVED_AT_ONCE = 500  # accounts in a transaction; each may have hundreds of posts


class LoadTestData(msgspec.Struct, frozen=True):
    """How much load tests have left behind, or how much of it was removed."""

    accounts: int = 0
    posts: int = 0


async def count_load_tests(database: Database) -> LoadTestData:
    """Count the accounts of load tests, and their posts."""
    row = await database.fetch_row(
        "WITH marked AS (SELECT id FROM accounts WHERE "  # noqa: S608
        f"{MARKED}) SELECT (SELECT count(*) FROM marked),"
        " (SELECT count(*) FROM posts JOIN marked ON author_id = marked.id)"
    )
    assert row is not None
    return LoadTestData(*row)


async def remove_load_tests(database: Database, origin: Origin) -> LoadTestData:
    """Remove the accounts of load tests with their posts, comments and sessions.

    Comments of others below their posts go too. Sessions end on all servers. The audit log keeps
    its lines and gets one for each account. What is removed stays removed where this is cancelled.

    Returns:
        How much was removed.
    """
    accounts = posts = 0
    last = UUID(int=0)
    async with database.connection() as connection:
        while True:
            async with connection.transaction():
                rows = await connection.fetch(
                    f"SELECT id FROM accounts WHERE {MARKED} AND id > $1"  # noqa: S608
                    f" ORDER BY id LIMIT {MAX_REMOVED_AT_ONCE} FOR UPDATE",
                    last,
                )
                if not rows:
                    return LoadTestData(accounts, posts)
                ids = [row["id"] for row in rows]
                posts += await _remove(connection, ids, origin)
            accounts += len(ids)
            last = ids[-1]


async def _remove(connection: Connection, ids: Sequence[UUID], origin: Origin) -> int:
    """Remove these accounts and what is theirs. Returns the number of posts."""
    # A deletion alone would not notify the servers that the sessions have ended.
    await connection.execute(
        "UPDATE sessions SET ended_at = now() WHERE account_id = ANY($1) AND ended_at IS NULL", ids
    )
    await connection.execute("DELETE FROM comments WHERE author_id = ANY($1)", ids)
    posts: int = await connection.fetchval(
        "WITH gone AS (DELETE FROM posts WHERE author_id = ANY($1) RETURNING id)"
        " SELECT count(*) FROM gone",
        ids,
    )
    await connection.execute("DELETE FROM accounts WHERE id = ANY($1)", ids)
    await connection.executemany(
        "INSERT INTO audit_log (id, event, succeeded, account_id, address, user_agent, request_id)"
        " VALUES ($1, $2, true, $3, $4, $5, $6)",
        [(uuid7(), Event.ACCOUNT_DELETE, account_id, *origin) for account_id in ids],
    )
    return posts
