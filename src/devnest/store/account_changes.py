"""What holders do to their accounts: another name, or an end.

A deleted account leaves its row, without a name, an address or a password, because conversations hang on it: its
posts and comments stay, by an author called `deleted:…`. Nobody can register such a name or ask for it: a colon is in
none. The row also keeps the ended sessions, from which every server learns that they have ended, even one whose
notification was lost; housekeeping deletes those after two weeks.
"""

import secrets
from uuid import UUID

import asyncpg

from devnest.store.accounts import Account
from devnest.store.database import Database
from devnest.store.errors import AlreadyTaken

__all__ = ["change_username", "delete_account"]


async def change_username(database: Database, account_id: UUID, username: str) -> Account | None:
    """Call the account otherwise; None where it has gone.

    Its last three names are kept for it, for 90 days each. Raises `AlreadyTaken` where another has the name, or gave
    it up not long ago.
    """
    try:
        row = await database.fetch_row(
            "UPDATE accounts SET username = $2 WHERE id = $1 AND deleted_at IS NULL"
            " RETURNING id, username, email, created_at",
            account_id, username,
        )  # fmt: skip
    # Two accounts that take each other's name at once wait for each other until PostgreSQL ends it for one.
    except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError) as error:
        raise AlreadyTaken("username") from error
    return None if row is None else Account(*row)


async def delete_account(database: Database, account_id: UUID, password_hash: str) -> list[UUID] | None:
    """End an account if this is still its hash; the ids of the sessions that ended with it, None where it is not.

    The name is kept from others for 90 days, by the same trigger as at a change. The address is free at once: a mail
    proves whose it is.
    """
    gone = f"deleted:{secrets.token_hex(8)}"
    async with database.connection() as connection, connection.transaction():
        deleted = await connection.fetchval(
            "UPDATE accounts SET username = $3, email = $3, password_hash = '', email_verified_at = NULL,"
            " deleted_at = now(), disabled_at = coalesce(disabled_at, now())"
            " WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL RETURNING true",
            account_id, password_hash, gone,
        )  # fmt: skip
        if not deleted:
            return None
        await connection.execute("DELETE FROM mailed_tokens WHERE account_id = $1", account_id)
        await connection.execute("DELETE FROM idempotency_keys WHERE account_id = $1", account_id)
        ended = await connection.fetch(
            "UPDATE sessions SET ended_at = now() WHERE account_id = $1 AND ended_at IS NULL RETURNING id", account_id
        )
        await connection.execute(
            "UPDATE sessions SET address = NULL, user_agent = NULL WHERE account_id = $1", account_id
        )
    return [row["id"] for row in ended]
